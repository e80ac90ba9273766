// A task: some code under an id, whose beginning, remarks, parts and end are told to a listener as events.
//
// Events carry `id`, `timestamp` and `type`: "start" (properties, parentId), "property" (name, value), "info" and
// "warning" (message, data), "abortionRequested" (reason), "end" (status, result). Code that runs inside a task finds
// it by itself, so parts nest without being handed their parent; outside of any task the static functions just run.

import { AsyncLocalStorage } from 'node:async_hooks'
import { randomBytes } from 'node:crypto'

const current = new AsyncLocalStorage()

const newId = () => `${Date.now().toString(36).padStart(9, '0')}-${randomBytes(4).readUInt32BE().toString(36)}`

function serialize(error) {
  if (!(error instanceof Error)) {
    return error
  }
  const { message, name, stack } = error
  return { ...error, message, name, stack }
}

export class Task {
  #controller = new AbortController()
  #listener
  #parentId

  constructor({ properties = {}, onProgress } = {}) {
    const parent = current.getStore()
    this.id = newId()
    this.status = 'pending'
    this.#parentId = parent?.id
    this.#listener = onProgress ?? (parent === undefined ? () => {} : event => parent.#listener(event))
    this.#emit('start', { parentId: this.#parentId, properties: { ...properties } })
  }

  static get abortSignal() {
    return current.getStore()?.abortSignal
  }

  static info(message, data) {
    current.getStore()?.info(message, data)
  }

  static warning(message, data) {
    current.getStore()?.warning(message, data)
  }

  static set(name, value) {
    current.getStore()?.set(name, value)
  }

  static run(options, fn) {
    return new Task(options).run(fn)
  }

  get abortSignal() {
    return this.#controller.signal
  }

  info(message, data) {
    this.#emit('info', { message, data })
  }

  warning(message, data) {
    this.#emit('warning', { message, data })
  }

  set(name, value) {
    this.#emit('property', { name, value })
  }

  abort(reason) {
    if (!this.#controller.signal.aborted) {
      this.#emit('abortionRequested', { reason })
      this.#controller.abort(reason)
    }
  }

  runInside(fn) {
    return current.run(this, fn)
  }

  async run(fn) {
    try {
      const result = await this.runInside(async () => fn(this))
      this.status = 'success'
      this.#emit('end', { status: this.status, result })
      return result
    } catch (error) {
      this.status = 'failure'
      this.#emit('end', { status: this.status, result: serialize(error) })
      throw error
    }
  }

  #emit(type, details) {
    this.#listener({ id: this.id, timestamp: Date.now(), type, ...details })
  }
}
