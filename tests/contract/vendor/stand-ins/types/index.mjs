// The constants that the REST interface looks up by name; the rest of the package is types only.

export const HOST_POWER_STATE = { HALTED: 'Halted', RUNNING: 'Running', UNKNOWN: 'Unknown' }

export const VM_POWER_STATE = { HALTED: 'Halted', PAUSED: 'Paused', RUNNING: 'Running', SUSPENDED: 'Suspended' }

export const BACKUP_TYPE = { backup: 'backup', metadata: 'metadataBackup', mirror: 'mirrorBackup' }

export const SUPPORTED_VDI_FORMAT = { qcow: 'qcow2', raw: 'raw', vhd: 'vhd' }
