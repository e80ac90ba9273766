'use strict'

// The published 0.9 and what has been added to it since. The list is written out, for names that are computed cannot be
// imported from a module.

const published = require('xo-common-0-9/api-errors.js')

class ServiceUnavailable extends Error {
  constructor(serviceName, message = `${serviceName} is unavailable`) {
    super(message)
    this.code = 28
    this.data = { serviceName }
  }
}

exports.serviceUnavailable = (...args) => {
  throw new ServiceUnavailable(...args)
}
exports.serviceUnavailable.is = error => error.code === 28

exports.alteredAuditRecord = published.alteredAuditRecord
exports.authenticationFailed = published.authenticationFailed
exports.featureUnauthorized = published.featureUnauthorized
exports.forbiddenOperation = published.forbiddenOperation
exports.hostOffline = published.hostOffline
exports.incorrectState = published.incorrectState
exports.invalidCredentials = published.invalidCredentials
exports.invalidParameters = published.invalidParameters
exports.missingAuditRecord = published.missingAuditRecord
exports.noHostsAvailable = published.noHostsAvailable
exports.noMatchingVm = published.noMatchingVm
exports.noSuchObject = published.noSuchObject
exports.notEnoughResources = published.notEnoughResources
exports.notImplemented = published.notImplemented
exports.notSupportedDuringUpgrade = published.notSupportedDuringUpgrade
exports.objectAlreadyExists = published.objectAlreadyExists
exports.operationBlocked = published.operationBlocked
exports.operationFailed = published.operationFailed
exports.patchPrecheckFailed = published.patchPrecheckFailed
exports.serverUnreachable = published.serverUnreachable
exports.unauthorized = published.unauthorized
exports.vdiInUse = published.vdiInUse
exports.vmBadPowerState = published.vmBadPowerState
exports.vmIsTemplate = published.vmIsTemplate
exports.vmLacksFeature = published.vmLacksFeature
exports.vmMissingPvDrivers = published.vmMissingPvDrivers
