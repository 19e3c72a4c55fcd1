/** `measurement.json`: what a contract has to allow for a release's image. Whoever gets a release computes it again from the files. */
import { type Static, Type } from 'typebox';
import { type Image, registersOf } from '../../host/vm/image.ts';
import { measurementOf } from '../../lib/attestation/registers/measurement.ts';
import { to0x } from '../../lib/protocol/encoding.ts';
import { FlavourSchema } from '../../lib/protocol/network-config.ts';
import { Count, Strict, Word0x } from '../../lib/protocol/schema.ts';
import { productionMeasurement } from '../production-measurement.ts';

export const MeasurementSchema = Strict({
  version: Type.Literal(1),
  release: Type.String({ pattern: '^[0-9A-Za-z.+-]{1,64}$' }),
  flavour: FlavourSchema,
  shape: Strict({ cpus: Count, memoryMiB: Count }),
  /** Null for a production image without the tables of a machine, on which TDX's depends (docs/images.md). */
  measurement: Type.Union([Word0x, Type.Null()]),
});
export type Measured = Static<typeof MeasurementSchema>;
export const MEASUREMENT_MAX_BYTES = 4096;

/** @param tables of a production image: tables.json of the machine @throws as `productionMeasurement` */
export async function measured(image: Image, release: string, tables: string | undefined): Promise<Measured> {
  const { flavour, defaultShape: shape } = image.manifest;
  const value = async () => {
    if (flavour !== 'production') return to0x(measurementOf(await registersOf(image, shape)));
    return tables === undefined ? null : productionMeasurement(image, shape, tables);
  };
  return { version: 1, release, flavour, shape, measurement: (await value()) as Measured['measurement'] };
}
