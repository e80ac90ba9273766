// What disks and machines hold: images in the formats that somebody has made, given back byte for byte.
//
// Nothing is converted: an image that is there in another format only cannot be read by a pool that does not know it.

import { readFile } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { XapiError } from './errors.mjs'

const VHD_SIZE_AT = 48

export class Images {
  #known

  // `seed` has the path of a file by format, by id.
  constructor(seed) {
    this.#known = new Map(Object.entries(seed))
  }

  async open(id, format) {
    const image = this.#known.get(id)?.[format]
    if (image === undefined) {
      throw new XapiError('VDI_IO_ERROR', 'Device I/O errors')
    }
    const content = Buffer.isBuffer(image) ? image : await readFile(image)
    // In pieces, as a pool sends them: of a single one, the length would be known.
    const size = Math.max(1, Math.ceil(content.length / 4))
    return Readable.from(
      (function* () {
        for (let at = 0; at < content.length; at += size) {
          yield content.subarray(at, at + size)
        }
      })()
    )
  }

  set(id, format, content) {
    this.#known.set(id, { [format]: content })
  }

  remove(id) {
    this.#known.delete(id)
  }
}

export async function readAll(stream) {
  const chunks = []
  for await (const chunk of stream) {
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

export function virtualSize(content, format) {
  if (format === 'raw') {
    return content.length
  }
  if (content.length < 512 || content.toString('latin1', 0, 8) !== 'conectix') {
    throw new Error('the image does not begin as a VHD does')
  }
  return Number(content.readBigUInt64BE(VHD_SIZE_AT))
}
