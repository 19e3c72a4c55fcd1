/** The answers of the agent API's operations (lib/protocol/agent-api.ts), for the container that asks. */
import type { Asked, Given, OperationName } from '../../lib/protocol/agent-api.ts';
import { ecosystemAppId, verifySignature } from '../../lib/protocol/app-keys.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { type Hex, parseAddress } from '../../lib/protocol/hex.ts';
import { appId } from '../../lib/protocol/manifest.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import { encodeVerifyAttestation } from '../../lib/protocol/network-contract.ts';
import { addressOfKey } from '../../lib/protocol/secp256k1.ts';
import type { MachineReply } from '../../lib/protocol/sockets.ts';
import { attestationDigest } from '../../lib/protocol/typed-data.ts';
import type { Caller } from '../callers.ts';
import type { Siblings } from './siblings.ts';

type Answers = {
  readonly [N in OperationName]: (caller: Caller, asked: Asked<N>, siblings: Siblings) => Promise<Given<N>>;
};

export const answers: Answers = {
  async key({ app }, { tag, type, purpose }, siblings) {
    const reply = await siblings.appKey(app, tag, type, purpose);
    const { publicKey } = reply;
    if (type !== 'secp256k1' || publicKey === undefined) return reply;
    return { ...reply, address: addressOfKey(fromHex(publicKey)) };
  },

  sign: ({ app }, { purpose = '', ...asked }, siblings) => siblings.sign(app, { ...asked, purpose }),

  async verify(_, { algorithm, data, signature, publicKey }) {
    const valid = verifySignature(algorithm, fromHex(data), fromHex(signature), fromHex(publicKey));
    return { valid };
  },

  async quote({ app, manifestHash }, { data }, siblings) {
    const machine = await siblings.machine();
    const reply = await siblings.quote(app, manifestHash, data);
    return { ...reply, statement: { app, manifestHash, data }, eventLog: eventLogOf(machine) };
  },

  async attest({ app }, { tag, data }, siblings) {
    const { chainId, contract } = await siblings.info();
    const { signature } = await siblings.attest(app, tag, data);
    const attestation = { app: appId(app), tag, data: fromHex(data) };
    const digest = toHex(attestationDigest({ chainId, contract }, attestation));
    return { signature, digest, call: attestationCall(app, tag, data, signature) };
  },

  chainHead: (_caller, _, siblings) => siblings.chainHead(),

  chainCall: (_, asked, siblings) => siblings.chainCall(asked),

  async info({ app, manifestHash, container, api }, _, siblings) {
    const [info, disk, machine] = await Promise.all([siblings.info(), siblings.disk(), siblings.machine()]);
    const { chainId, contract, networkKey, epoch, config, measurement, platform, flavour } = info;
    const { rawQuotes } = machine;
    return {
      app,
      appId: toHex(ecosystemAppId({ chainId, contract }, app)),
      container,
      manifestHash,
      api: [...api],
      node: {
        flavour: flavour as Flavour,
        measurement,
        platform,
        disk: { state: disk.state, ...(disk.diskId === undefined ? {} : { diskId: disk.diskId }) },
      },
      network: {
        ...{ chainId, contract, networkKey: parseAddress(networkKey), epoch, config },
        ...(rawQuotes === undefined ? {} : { rawQuotes }),
      },
    };
  },

  async status(_caller, _, siblings) {
    const { epoch, reached } = await siblings.status();
    return { epoch, block: reached.block, blockTime: reached.timestamp, now: reached.now };
  },
};

/** In the ecosystem's form. */
export const eventLogOf = ({ events }: MachineReply): Given<'quote'>['eventLog'] =>
  events.map(({ register, type, digest, name, payload }) => ({
    ...{ imr: register, event_type: type, digest, event: name, event_payload: payload },
  }));

/** The call of the contract that says whether an app of its network attested this. @param signature v ‖ r ‖ s */
export function attestationCall(app: string, tag: string, data: string, signature: Hex): string {
  const [v = 0, ...rest] = fromHex(signature, 65);
  const [r, s] = [rest.slice(0, 32), rest.slice(32)].map((part) => toHex(Uint8Array.from(part)));
  return encodeVerifyAttestation({
    app: toHex(appId(app)),
    tag,
    data: `0x${data}`,
    v,
    r: r!,
    s: s!,
  });
}
