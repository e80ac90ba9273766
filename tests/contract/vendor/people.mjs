// Users, groups and tokens, and the records that Xen Orchestra keeps for itself.
//
// Who may sign in and what makes a good token is the application's business and not under test; here a token is good
// when it is known.

import { randomUUID } from 'node:crypto'
import { forbiddenOperation, invalidCredentials, noSuchObject, objectAlreadyExists } from 'xo-common/api-errors.js'

const MONTH = 30 * 24 * 3600 * 1000

class Table {
  #type
  #records

  constructor(type, records = []) {
    this.#type = type
    this.#records = new Map(records.map(record => [record.id, record]))
  }

  // Arrow functions, for the REST interface takes them off their object.
  all = async () => [...this.#records.values()]

  get = async id => {
    const record = this.#records.get(id)
    if (record === undefined) {
      throw noSuchObject(id, this.#type)
    }
    return record
  }

  add = async record => {
    const added = { id: randomUUID(), ...record }
    this.#records.set(added.id, added)
    return added
  }

  update = async (id, changes) => {
    const updated = { ...(await this.get(id)), ...changes }
    this.#records.set(id, updated)
    return updated
  }

  remove = async id => {
    await this.get(id)
    this.#records.delete(id)
  }
}

export function makePeople({ users, tokens }) {
  const passwords = new Map(users.map(({ id, password }) => [id, password]))
  const table = new Table(
    'user',
    users.map(({ password, ...user }) => ({ groups: [], preferences: {}, ...user, pw_hash: 'known', name: user.email }))
  )
  const groups = new Table('group')
  const known = new Map(tokens.map(token => [token.id, token]))

  const authenticate = async ({ token, username, password }) => {
    const all = await table.all()
    const user =
      token === undefined
        ? all.find(({ id, email }) => email === username && passwords.get(id) === password)
        : all.find(({ id }) => id === known.get(token)?.user_id)
    if (user === undefined) {
      throw invalidCredentials()
    }
    return { user }
  }

  const createToken = async ({ userId, client, description, expiresIn }) => {
    const now = Date.now()
    const expiration = now + (typeof expiresIn === 'number' ? expiresIn : MONTH)
    const token = { client, created_at: now, description, expiration, id: `token-${randomUUID()}`, user_id: userId }
    known.set(token.id, token)
    return token
  }

  const createUser = async ({ name, password, permission = 'none' }) => {
    const taken = (await table.all()).find(user => user.email === name)
    if (taken !== undefined) {
      throw objectAlreadyExists({ objectId: taken.id, objectType: 'user' })
    }
    const user = await table.add({ email: name, groups: [], name, permission, preferences: {}, pw_hash: 'known' })
    passwords.set(user.id, password)
    return user
  }

  const updateUser = async (id, { name, password, ...rest }) => {
    const taken = (await table.all()).find(user => user.email === name)
    if (taken !== undefined && taken.id !== id) {
      throw objectAlreadyExists({ objectId: taken.id, objectType: 'user' })
    }
    if (password !== undefined) {
      passwords.set(id, password)
    }
    return table.update(id, name === undefined ? rest : { ...rest, email: name, name })
  }

  const createGroup = async ({ name }) => {
    const taken = (await groups.all()).find(group => group.name === name)
    if (taken !== undefined) {
      throw objectAlreadyExists({ objectId: taken.id, objectType: 'group' })
    }
    return groups.add({ aclRoleIds: [], name, users: [] })
  }

  const setMembership = async (userId, groupId, present) => {
    const [user, group] = [await table.get(userId), await groups.get(groupId)]
    const change = (ids, id) => [...ids.filter(each => each !== id), ...(present ? [id] : [])]
    await table.update(userId, { groups: change(user.groups, groupId) })
    await groups.update(groupId, { users: change(group.users, userId) })
  }

  return {
    authenticateUser: authenticate,
    createAuthenticationToken: createToken,
    getAuthenticationTokensForUser: async id => [...known.values()].filter(token => token.user_id === id),
    getUser: table.get,
    getAllUsers: table.all,
    createUser,
    updateUser,
    deleteUser: table.remove,
    getGroup: groups.get,
    getAllGroups: groups.all,
    createGroup,
    updateGroup: groups.update,
    deleteGroup: groups.remove,
    addUserToGroup: (userId, groupId) => setMembership(userId, groupId, true),
    removeUserFromGroup: (userId, groupId) => setMembership(userId, groupId, false),
  }
}

export function makeRecords(records) {
  const table = (type, name) => new Table(type, records[name])
  const servers = table('xenServer', 'servers')
  const repositories = table('remote', 'backup-repositories')
  const jobs = table('job', 'backup-jobs')
  const schedules = table('schedule', 'schedules')
  const logs = table('log', 'backup-logs')
  const proxies = table('proxy', 'proxies')
  const roles = table('acl-role', 'acl-roles')
  const privileges = table('acl-privilege', 'acl-privileges')

  return {
    getXenServer: servers.get,
    getAllXenServers: servers.all,
    registerXenServer: ({ password, ...record }) => servers.add({ enabled: false, status: 'disconnected', ...record }),
    unregisterXenServer: servers.remove,
    getRemote: repositories.get,
    getAllRemotes: repositories.all,
    getProxy: proxies.get,
    getAllProxies: proxies.all,
    getJob: jobs.get,
    getAllJobs: async type => (await jobs.all()).filter(job => type === undefined || job.type === type),
    getSchedule: schedules.get,
    getAllSchedules: schedules.all,
    runJob: async () => {
      throw forbiddenOperation('run job', 'nothing is backed up here')
    },
    getBackupNgLogs: logs.get,
    getBackupNgLogsSorted: async ({ filter = () => true } = {}) =>
      (await logs.all()).filter(filter).sort((a, b) => a.start - b.start),
    listVmBackupsNg: async ids => Object.fromEntries(ids.map(id => [id, {}])),
    getAclV2Role: roles.get,
    getAclV2Roles: roles.all,
    getAclV2Privilege: privileges.get,
    getAclV2Privileges: privileges.all,
    getAclV2RolePrivileges: async id => (await privileges.all()).filter(({ roleId }) => roleId === id),
    // Nobody but administrators may do anything.
    getAclV2UserPrivileges: async () => [],
  }
}
