// The ids that a pattern names one by one: {id: X} or {id: {__or: [X, Y]}}; any other pattern is not simple.

export function extractIdsFromSimplePattern(pattern) {
  if (pattern === undefined) {
    return []
  }
  const { id, ...rest } = pattern
  const ids = typeof id === 'string' ? [id] : id?.__or
  if (Object.keys(rest).length !== 0 || !Array.isArray(ids) || !ids.every(each => typeof each === 'string')) {
    throw new Error('the pattern is not simple')
  }
  return ids
}
