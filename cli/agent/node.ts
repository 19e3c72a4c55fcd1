/**
 * The node behind a simulated agent: the replicator's own routes for apps, with keys from a secret that lies on a disk, a simulated
 * platform, and the clock of this machine in place of a chain's.
 */

import { appQuotes } from '../../guest/replicator/app-quotes.ts';
import { chainReads } from '../../guest/replicator/chain-reads.ts';
import { keyring } from '../../guest/replicator/keyring.ts';
import { secretHolder } from '../../guest/replicator/secret.ts';
import type { JoinedForApps } from '../../guest/replicator/siblings.ts';
import { expectedJoinedLog, replay } from '../../lib/attestation/registers/event-log.ts';
import { firmwareEvent, replayFirmwareLog } from '../../lib/attestation/registers/firmware-log.ts';
import { measurementOf } from '../../lib/attestation/registers/measurement.ts';
import { createSimulatedPlatform, PPID_BYTES } from '../../lib/attestation/simulated/platform.ts';
import { chainClient } from '../../lib/chain/chain-client.ts';
import { readBounded } from '../../lib/daemon/bounded-file.ts';
import { lengthPrefixed, sha256, sha384, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { CONFIG_MAX_BYTES, configHash, parseNetworkConfig } from '../../lib/protocol/network-config.ts';

const FLAVOUR = 'sim';
const EPOCH = 1;
/** Seconds between the blocks of a chain that is not there. */
const BLOCK_SECONDS = 12;
/** TCG event type EV_IPL: something that was loaded. */
const LOADED = 13;
/** No image has these registers. */
const NAME = 'dstack agent dev';

/** network.json of a network that is nowhere. @param rawQuotes the app that has them */
export const simulatedNetwork = (rawQuotes?: string): Uint8Array =>
  utf8(
    JSON.stringify({
      version: 1,
      chainId: 31_337,
      contract: `0x${toHex(sha256(utf8(NAME)).subarray(0, 20))}`,
      confirmation: { depth: 0 },
      endpoints: ['http://127.0.0.1:8545'],
      quorum: 1,
      ...(rawQuotes === undefined ? {} : { rawQuotes }),
    }),
  );

/** @throws FILE_KIND, FILE_TOO_LARGE, the file system's own errors */
export const networkFrom = (file: string): Uint8Array =>
  readBounded(file, { maxBytes: CONFIG_MAX_BYTES, pipes: true });

/**
 * A node that has joined.
 * @param secret 32 bytes, which are the node's from now on
 * @param networkJson its bytes
 * @throws the codes of `parseNetworkConfig`
 */
export function simulatedNode(secret: Uint8Array, networkJson: Uint8Array): JoinedForApps {
  const network = parseNetworkConfig(networkJson, FLAVOUR);
  const config = configHash(networkJson);
  const domain = { chainId: network.chainId, contract: network.contract };
  const ppid = sha256(lengthPrefixed([utf8(`${NAME} ppid`), secret])).subarray(0, PPID_BYTES);
  const platform = createSimulatedPlatform({ ppid });
  const events = (['rtmr0', 'rtmr1', 'rtmr2'] as const).map((register) =>
    firmwareEvent(register, LOADED, sha384(utf8(`${NAME} ${register}`)), NAME),
  );
  const image = { mrtd: sha384(utf8(`${NAME} mrtd`)), ...replayFirmwareLog(events) };
  const registers = { ...image, rtmr3: replay(expectedJoinedLog(FLAVOUR, config)) };
  const keys = secretHolder(keyring(new Map([[EPOCH, secret]])), domain);
  const now = () => Math.floor(Date.now() / 1000);
  return {
    keys,
    info: {
      ...domain,
      networkKey: keys.networkKey,
      epoch: EPOCH,
      config: toHex(config),
      measurement: toHex(measurementOf(image)),
      platform: toHex(platform.platformId),
      flavour: FLAVOUR,
    },
    quotes: appQuotes(
      { image: { version: 1, flavour: FLAVOUR, builtAt: 0 }, network, config },
      {
        quote: async (reportData) => platform.signQuote({ registers, reportData }),
        firmwareLog: async () =>
          events.map(({ type, digest }, index) => ({
            register: `rtmr${index}` as 'rtmr0',
            type,
            digest: toHex(digest),
          })),
      },
    ),
    chain: chainReads(chainClient({ config: network })),
    requireFresh: now,
    reached() {
      const block = Math.floor(now() / BLOCK_SECONDS);
      return { block, timestamp: block * BLOCK_SECONDS, now: now() };
    },
  };
}
