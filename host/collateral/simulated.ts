/**
 * What the maker of the simulated platform would publish: its collateral is a constant, as its root is, so every host has
 * it. It is of no use to a production network, whose nodes do not trust that root.
 */
import { SIMULATED_FMSPC } from '../../lib/attestation/simulated/platform.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../../lib/attestation/simulated/published.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import type { CollateralSource } from './source.ts';

export const simulatedSource: CollateralSource = {
  name: 'the simulated platform',
  find: ({ tee, fmspc }) =>
    Promise.resolve(
      tee === 'tdx' && fmspc === toHex(SIMULATED_FMSPC) ? PUBLISHED_SIMULATED_COLLATERAL : undefined,
    ),
};
