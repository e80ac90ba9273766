// The one pool behind the REST interface: the `$xapi` that it calls, and the records with `$ref`, `$xapi`, `$call`.
//
// Each method of `$xapi` is noted in the journal with its parameters, so that a test can say what reached the pool. What
// it does there are XAPI calls (`effects`), which can be made to fail or to take until they are let go.

import { forbiddenOperation } from 'xo-common/api-errors.js'
import { makeEffects } from './effects.mjs'
import { XapiError } from './errors.mjs'
import { Images, readAll, virtualSize } from './images.mjs'

// XAPI's classes, where Xen Orchestra tells more types apart
const CLASSES = { 'VM-controller': 'VM', 'VM-snapshot': 'VM', 'VM-template': 'VM', 'VDI-snapshot': 'VDI' }

export class Pool {
  journal = []
  #effects
  #failures = new Map()
  #held = new Map()
  #images
  #store

  constructor(store, images) {
    this.#store = store
    this.#images = new Images(images)
    this.#effects = makeEffects(store, this.#images)
    this.xapi = this.#makeXapi()
  }

  fail(method, code, params) {
    this.#failures.set(method, [code, ...params])
  }

  hold(method) {
    const held = {}
    held.promise = new Promise(resolve => (held.release = resolve))
    this.#held.set(method, held)
  }

  release(method) {
    this.#held.get(method)?.release()
    this.#held.delete(method)
  }

  record(key, type) {
    const object = typeof key === 'string' ? this.#store.get(key, type) : key
    const { _xapiRef: ref, uuid } = object
    const xapi = this.xapi
    const name = CLASSES[object.type] ?? object.type
    const call = (method, ...params) => xapi.call(`${name}.${method}`, ref, ...params)
    return {
      $call: call,
      $callAsync: call,
      $id: uuid,
      $ref: ref,
      $snapshot: ({ name_label } = {}) => call('snapshot', name_label),
      $xapi: xapi,
      uuid,
    }
  }

  async #call(method, ...params) {
    const started = Date.now()
    try {
      await this.#held.get(method)?.promise
      const failure = this.#failures.get(method)
      if (failure !== undefined) {
        throw new XapiError(...failure)
      }
      const effect = this.#effects[method]
      if (effect === undefined) {
        throw new XapiError('MESSAGE_METHOD_UNKNOWN', method)
      }
      return effect(...params)
    } catch (error) {
      if (error instanceof XapiError) {
        error.call = { duration: Date.now() - started, method, params: ['* session id *', ...params] }
      }
      throw error
    }
  }

  #makeXapi() {
    const methods = { ...this.#plainMethods(), ...this.#imageMethods() }
    const noted = {}
    for (const [name, method] of Object.entries(methods)) {
      noted[name] = (...params) => {
        this.journal.push({ method: name, params: params.map(describe) })
        return method(...params)
      }
    }
    return noted
  }

  #plainMethods() {
    const store = this.#store
    const call = (...args) => this.#call(...args)
    const ref = id => store.get(id)._xapiRef

    return {
      call,
      callAsync: call,
      getField: async (_, key, field) => store.get(key)[field],
      getObject: key => this.record(key),
      barrier: async key => this.record(key),
      startVm: (id, { hostId } = {}) => call(hostId === undefined ? 'VM.start' : 'VM.start_on', ref(id), hostId),
      resumeVm: id => call('VM.resume', ref(id)),
      unpauseVm: id => call('VM.unpause', ref(id)),
      revertVm: id => call('VM.revert', ref(id)),
      cloneVm: async (id, { nameLabel } = {}) => this.record(await call('VM.clone', ref(id), nameLabel)),
      editVm: async (id, { nameLabel: name_label, nameDescription: name_description, ...rest }) => {
        if (Object.keys(rest).length !== 0) {
          throw new Error(`not editable here: ${Object.keys(rest).join(', ')}`)
        }
        const given = Object.entries({ name_label, name_description }).filter(([, value]) => value !== undefined)
        store.update(id, Object.fromEntries(given))
      },
      VM_destroy: key => {
        const vm = store.get(key)
        if ('destroy' in vm.blockedOperations) {
          throw forbiddenOperation('destroy', vm.blockedOperations.destroy)
        }
        return call('VM.destroy', key)
      },
      VDI_create: ({ SR, ...record }) => call('VDI.create', SR, record),
      VDI_destroy: key => call('VDI.destroy', key),
      enableHost: id => call('host.enable', ref(id)),
      disableHost: id => call('host.disable', ref(id)),
      createNetwork: async params => this.record(await call('network.create', params)),
      deleteNetwork: id => call('network.destroy', ref(id)),
    }
  }

  #imageMethods() {
    const store = this.#store
    const call = (...args) => this.#call(...args)

    return {
      VM_export: async key => {
        await call('VM.get_uuid', key)
        return { body: await this.#images.open(store.get(key).id, 'xva') }
      },
      VM_import: async (stream, srRef) => {
        const content = await readAll(stream)
        const pool = Object.values(store.ofType('pool'))[0]
        const sr = store.get(srRef ?? pool.default_SR, 'SR')
        if (content.toString('latin1', 0, 7) !== 'ova.xml') {
          throw new XapiError('IMPORT_ERROR', 'unrecognised stream')
        }
        const like = Object.values(store.ofType('VM'))[0]
        const changes = { $VBDs: [], VIFs: [], $container: sr.$pool, name_label: 'imported', power_state: 'Halted' }
        const vm = store.add(like, { ...changes, snapshots: [] })
        this.#images.set(vm.id, 'xva', content)
        return vm._xapiRef
      },
      VDI_exportContent: async (key, { format }) => this.#images.open(store.get(key).id, format),
      VDI_importContent: async (key, stream, { format }) => {
        const vdi = store.get(key)
        if (vdi.$VBDs.some(id => store.get(id).attached)) {
          throw new XapiError('VDI_IN_USE', key, 'import')
        }
        const content = await readAll(stream)
        if (virtualSize(content, format) !== vdi.size) {
          throw new XapiError('VDI_IO_ERROR', 'Device I/O errors')
        }
        this.#images.set(vdi.id, format, content)
      },
      SR_importVdi: async (srRef, stream, { format, name_label, name_description }) => {
        const content = await readAll(stream)
        const virtual_size = virtualSize(content, format)
        const key = await call('VDI.create', srRef, { name_label, name_description, virtual_size })
        this.#images.set(store.get(key).id, format, content)
        return key
      },
    }
  }
}

const describe = value => (typeof value?.pipe === 'function' ? '<stream>' : value)
