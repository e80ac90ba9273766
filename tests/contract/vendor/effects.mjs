// What XAPI calls do to the objects of the one pool. Enough to be believed by whoever looks at the objects afterwards.
//
// An effect takes the reference of its object and the parameters of the call, and returns what the call does.

import { XapiError } from './errors.mjs'

const LIVE = ['Running', 'Paused']
// method: the states it starts from, the first being what an error asks for, and the state it ends in
const POWER = {
  start: [['Halted'], 'Running'],
  start_on: [['Halted'], 'Running'],
  clean_shutdown: [['Running'], 'Halted'],
  hard_shutdown: [['Running', 'Paused', 'Suspended'], 'Halted'],
  clean_reboot: [['Running'], 'Running'],
  hard_reboot: [['Running', 'Paused'], 'Running'],
  pause: [['Running'], 'Paused'],
  unpause: [['Paused'], 'Running'],
  suspend: [['Running'], 'Suspended'],
  resume: [['Suspended'], 'Running'],
}

export function makeEffects(store, images) {
  const effects = {}

  for (const [method, [allowed, end]] of Object.entries(POWER)) {
    effects[`VM.${method}`] = (ref, hostId) => {
      const vm = store.get(ref)
      if (!allowed.includes(vm.power_state)) {
        throw new XapiError('VM_BAD_POWER_STATE', ref, allowed[0].toLowerCase(), vm.power_state.toLowerCase())
      }
      if (method in vm.blockedOperations) {
        throw new XapiError('OPERATION_BLOCKED', ref, vm.blockedOperations[method])
      }
      const somewhere = LIVE.includes(vm.power_state) ? vm.$container : store.get(vm.$pool).master
      const host = typeof hostId === 'string' ? hostId : somewhere
      store.update(ref, { power_state: end, $container: LIVE.includes(end) ? host : vm.$pool })
    }
  }

  for (const type of ['VM', 'VDI', 'SR', 'host', 'pool', 'network']) {
    effects[`${type}.add_tags`] = (ref, tag) => {
      const { tags } = store.get(ref)
      store.update(ref, { tags: tags.includes(tag) ? tags : [...tags, tag] })
    }
    effects[`${type}.remove_tags`] = (ref, tag) => {
      store.update(ref, { tags: store.get(ref).tags.filter(each => each !== tag) })
    }
    effects[`${type}.get_uuid`] = ref => store.get(ref).uuid
  }

  const disksOf = vm =>
    vm.$VBDs.map(id => store.get(id)).filter(vbd => vbd.VDI !== undefined && !vbd.is_cd_drive)

  effects['VM.snapshot'] = (ref, name) => {
    const vm = store.get(ref)
    const { snapshots, ...like } = vm
    const snapshot = store.add(like, {
      $VBDs: [],
      $container: vm.$pool,
      $snapshot_of: vm.id,
      name_label: name ?? vm.name_label,
      power_state: 'Halted',
      snapshot_time: Math.floor(Date.now() / 1000),
      snapshots: [],
      type: 'VM-snapshot',
    })
    store.update(ref, { snapshots: [...snapshots, snapshot.id] })
    return snapshot._xapiRef
  }

  effects['VM.clone'] = (ref, name) => {
    const vm = store.get(ref)
    if (vm.power_state !== 'Halted') {
      throw new XapiError('VM_BAD_POWER_STATE', ref, 'halted', vm.power_state.toLowerCase())
    }
    return store.add(vm, { $VBDs: [], VIFs: [], name_label: name ?? vm.name_label, snapshots: [] })._xapiRef
  }

  effects['VM.revert'] = ref => {
    const snapshot = store.get(ref)
    store.update(snapshot.$snapshot_of, { memory: snapshot.memory, CPUs: snapshot.CPUs })
  }

  effects['VM.destroy'] = ref => {
    const vm = store.get(ref)
    for (const vbd of disksOf(vm)) {
      effects['VDI.destroy'](vbd.VDI)
    }
    vm.$VBDs.filter(id => store.has(id)).forEach(id => store.remove(id))
    store.remove(ref)
  }

  effects['VDI.create'] = (srRef, { name_label = '', name_description = '', tags = [], virtual_size, type = 'user' }) => {
    const sr = store.get(srRef)
    const like = store.get(sr.VDIs.find(id => store.get(id).type === 'VDI'))
    const vdi = store.add(like, {
      $SR: sr.id,
      $VBDs: [],
      VDI_type: type,
      name_description,
      name_label,
      other_config: {},
      size: virtual_size,
      snapshots: [],
      tags,
      usage: 0,
    })
    store.update(sr.id, { VDIs: [...sr.VDIs, vdi.id] })
    return vdi._xapiRef
  }

  effects['VDI.destroy'] = key => {
    const vdi = store.get(key)
    vdi.$VBDs.filter(id => store.has(id)).forEach(id => store.remove(id))
    store.update(vdi.$SR, { VDIs: store.get(vdi.$SR).VDIs.filter(id => id !== vdi.id) })
    images.remove(vdi.id)
    store.remove(key)
  }

  effects['VDI.set_name_label'] = (ref, name_label) => void store.update(ref, { name_label })
  effects['VDI.set_name_description'] = (ref, name_description) => void store.update(ref, { name_description })
  effects['VDI.resize'] = (ref, size) => void store.update(ref, { size })

  effects['SR.scan'] = ref => void store.get(ref)
  effects['host.enable'] = ref => void store.update(ref, { enabled: true })
  effects['host.disable'] = ref => void store.update(ref, { enabled: false })

  effects['network.create'] = ({ name, description = '', mtu = 1500 }) => {
    const like = Object.values(store.ofType('network'))[0]
    const changes = { MTU: mtu, PIFs: [], VIFs: [], name_description: description, name_label: name, tags: [] }
    return store.add(like, changes)._xapiRef
  }
  effects['network.destroy'] = ref => void store.remove(ref)

  return effects
}
