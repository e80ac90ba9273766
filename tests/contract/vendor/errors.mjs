// Failures of the pool, told apart by the REST interface through their name.

export class XapiError extends Error {
  constructor(code, ...params) {
    super(`${code}(${params.join(', ')})`)
    this.name = 'XapiError'
    this.code = code
    this.params = params
  }
}
