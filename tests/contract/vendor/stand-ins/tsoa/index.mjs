// The half of tsoa that runs; the other half is a compiler.

export * from '@tsoa/runtime'
