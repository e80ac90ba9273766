// The XAPI objects, as the REST interface reads them: by id or XAPI reference, or all of a type.
//
// Objects are replaced, never mutated, and a replaced one moves to the end, as on a real server.

import { randomUUID } from 'node:crypto'
import { noSuchObject } from 'xo-common/api-errors.js'

export class Store {
  #objects = new Map()
  #ids = new Map()

  constructor(objects) {
    objects.forEach(object => this.put(object))
  }

  has(key) {
    return this.#objects.has(this.#ids.get(key) ?? key)
  }

  get(key, type) {
    const object = this.#objects.get(this.#ids.get(key) ?? key)
    if (object === undefined || (type !== undefined && ![type].flat().includes(object.type))) {
      throw noSuchObject(key, type)
    }
    return object
  }

  ofType(type, { filter = () => true, limit = Infinity } = {}) {
    const predicate = typeof filter === 'function' ? filter : object => matches(object, filter)
    const found = [...this.#objects.values()].filter(object => object.type === type && predicate(object))
    return Object.fromEntries(found.slice(0, limit).map(object => [object.id, object]))
  }

  put(object) {
    this.#objects.delete(object.id)
    this.#objects.set(object.id, object)
    this.#ids.set(object._xapiRef, object.id)
    return object
  }

  update(key, changes) {
    return this.put({ ...this.get(key), ...changes })
  }

  // A new object made after the likeness of another one.
  add(like, changes) {
    const id = randomUUID()
    return this.put({ ...like, ...changes, id, uuid: id, _xapiId: id, _xapiRef: `OpaqueRef:${randomUUID()}` })
  }

  remove(key) {
    const { id, _xapiRef } = this.get(key)
    this.#objects.delete(id)
    this.#ids.delete(_xapiRef)
  }
}

const matches = (object, pattern) => Object.entries(pattern).every(([name, value]) => object[name] === value)
