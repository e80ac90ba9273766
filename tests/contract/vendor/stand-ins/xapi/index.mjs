// One function, which the dashboard of a VM asks for: XAPI's dates as Unix seconds.

const COMPACT = /^(\d{4})(\d{2})(\d{2})T(\d{2}):?(\d{2}):?(\d{2})(?:\.\d+)?Z?$/

export function parseDateTime(value) {
  if (typeof value === 'number') {
    return value
  }
  const parts = COMPACT.exec(value)
  const milliseconds =
    parts === null ? Date.parse(value) : Date.UTC(parts[1], parts[2] - 1, parts[3], parts[4], parts[5], parts[6])
  if (Number.isNaN(milliseconds)) {
    throw new Error(`not a date: ${value}`)
  }
  return Math.round(milliseconds / 1000)
}
