/** What this host has: an image and its measurement, a platform, a key that pays. Nothing here asks anyone else. */
import { readGasKey } from '../../host/relay/settings.ts';
import { openImage, registersOf, type Shape } from '../../host/vm/image.ts';
import { simulatedPlatformId } from '../../host/vm/quoting.ts';
import { measurementOf } from '../../lib/attestation/registers/measurement.ts';
import { fromHex, to0x } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { type Address, chainHex } from '../../lib/protocol/hex.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import { addressOf } from '../../lib/protocol/secp256k1.ts';
import { productionMeasurement } from '../production-measurement.ts';

export interface HostSettings {
  readonly imageFolder: string;
  readonly platformStateFile: string;
  readonly shape?: Shape;
  readonly gasKeyFile: string;
  /** For a production image: tables.json of this host's machine. */
  readonly tables?: string;
}

export interface HostFacts {
  readonly flavour: Flavour;
  readonly shape: Shape;
  /** 0x-prefixed: of the files that will boot, in the shape they will boot in, not of what image.json says. */
  readonly measurement: string;
  /** 0x-prefixed; undefined on hardware, where only a quote tells it. */
  readonly platform: string | undefined;
  /** The account that pays. */
  readonly gasAddress: Address;
}

/** @throws IMAGE_MISSING with the command that builds it, IMAGE_INVALID, MEASUREMENT_UNKNOWN, PLATFORM_STATE, GAS_KEY */
export async function hostFacts(settings: HostSettings): Promise<HostFacts> {
  const image = await openImage(settings.imageFolder).catch((error) => {
    throw codeOf(error) === 'IMAGE_MISSING' ? notBuilt(settings.imageFolder, error) : error;
  });
  const { flavour, defaultShape } = image.manifest;
  const shape = settings.shape ?? defaultShape;
  return {
    flavour,
    shape,
    // Of each flavour what its own platform measures: a quote of TDX never has what the simulated one computes.
    measurement:
      flavour === 'production'
        ? productionMeasurement(image, shape, settings.tables)
        : to0x(measurementOf(await registersOf(image, shape))),
    platform:
      flavour === 'production' ? undefined : chainHex(await simulatedPlatformId(settings.platformStateFile)),
    gasAddress: gasAddress(settings.gasKeyFile),
  };
}

function notBuilt(folder: string, cause: unknown): DstackError {
  const flavour = /image-(production|sim|dev)\/*$/.exec(folder)?.[1] ?? 'FLAVOUR';
  return new DstackError(
    'IMAGE_MISSING',
    `there is no image in ${folder} (DSTACK_VM_IMAGE_DIR); build it with: ./build_vm.sh --flavour ${flavour}`,
    { cause },
  );
}

function gasAddress(file: string): Address {
  const key = readGasKey(file);
  try {
    return addressOf(fromHex(key, 32));
  } catch {
    // The cause would quote the key.
    throw new DstackError('GAS_KEY', `${file} holds 32 bytes that are not a secp256k1 private key`);
  }
}
