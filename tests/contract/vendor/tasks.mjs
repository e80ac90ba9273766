// The tasks that actions run as: a record each, kept up to date from the events of the task that runs.

import { EventEmitter } from 'node:events'
import { Task } from '@vates/task'
import { noSuchObject } from 'xo-common/api-errors.js'

export class Tasks extends EventEmitter {
  #records = new Map()
  #running = new Map()
  #getUser

  constructor(getUser) {
    super()
    this.setMaxListeners(0)
    this.#getUser = getUser
  }

  create(properties) {
    const userId = this.#getUser()?.id
    const task = new Task({ properties: { ...properties, userId }, onProgress: event => this.#note(event) })
    this.#running.set(task.id, task)
    return task
  }

  async get(id) {
    const record = this.#records.get(id)
    if (record === undefined) {
      throw noSuchObject(id, 'task')
    }
    return record
  }

  async *list({ filter = () => true } = {}) {
    yield* [...this.#records.values()].filter(filter)
  }

  // Calls back with the record as it is now and whenever it changes, but never before the caller has what stops it.
  async watch(id, callback) {
    const record = await this.get(id)
    const onUpdate = changed => {
      if (changed.id === id) {
        callback(changed)
      }
    }
    this.on('update', onUpdate)
    const first = setImmediate(() => onUpdate(this.#records.get(id) ?? record))
    return () => {
      clearImmediate(first)
      this.off('update', onUpdate)
    }
  }

  async abort(id) {
    const task = this.#running.get(id)
    if (task === undefined) {
      throw noSuchObject(id, 'task')
    }
    task.abort('the user asked for it')
  }

  async deleteLog(id) {
    const record = await this.get(id)
    this.#records.delete(id)
    this.emit('remove', record)
  }

  #note({ id, timestamp, type, ...details }) {
    const known = this.#records.get(id)
    const record = { ...(known ?? { id, start: timestamp, status: 'pending' }), updatedAt: timestamp }
    if (type === 'start') {
      // A part of another task has a place within that one's record, which nothing here looks at.
      if (details.parentId !== undefined) {
        return
      }
      record.properties = details.properties
    } else if (known === undefined) {
      return
    } else if (type === 'property') {
      record.properties = { ...record.properties, [details.name]: details.value }
    } else if (type === 'info' || type === 'warning') {
      record[`${type}s`] = [...(record[`${type}s`] ?? []), details]
    } else if (type === 'abortionRequested') {
      record.abortionRequestedAt = timestamp
    } else if (type === 'end') {
      Object.assign(record, { end: timestamp, status: details.status, result: details.result })
      this.#running.delete(id)
    }
    this.#records.set(id, record)
    this.emit('update', record)
  }
}
