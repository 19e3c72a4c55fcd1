/** `network allow` and `network revoke`: which images, configurations and platforms may join. */
import { X509Certificate } from 'node:crypto';
import { statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { openImage, registersOf } from '../../host/vm/image.ts';
import { measurementOf } from '../../lib/attestation/registers/measurement.ts';
import type { Head } from '../../lib/chain/chain-client.ts';
import { fromHex, sha256, to0x, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Address } from '../../lib/protocol/hex.ts';
import { configHash, type NetworkConfig, SUPERSEDED_GRACE } from '../../lib/protocol/network-config.ts';
import {
  decodeConfigAllowedFrom,
  decodeMeasurementAllowedFrom,
  decodePlatformAllowedFrom,
  decodePlatformsOpenFrom,
  encodeAllowConfig,
  encodeAllowMeasurement,
  encodeAllowPlatform,
  encodeClosePlatforms,
  encodeConfigAllowedFrom,
  encodeMeasurementAllowedFrom,
  encodeOpenPlatforms,
  encodePlatformAllowedFrom,
  encodePlatformsOpenFrom,
  encodeRevokeConfig,
  encodeRevokeMeasurement,
  encodeRevokePlatform,
} from '../../lib/protocol/network-contract.ts';
import { printable } from '../../lib/protocol/printable.ts';
import { type Command, UsageError } from '../command.ts';
import { showDuration } from '../duration.ts';
import { instant } from '../instant.ts';
import { act, type Deed, openOwner, ownerOptions } from '../owner/act.ts';
import {
  type NetworkConnection,
  parseOwnersConfig,
  readGiven,
  requireSameNetwork,
} from '../owner/connection.ts';
import { productionMeasurement, tablesOption } from '../production-measurement.ts';

/** What can be allowed and revoked: the calls that do it, and the view that says from when it is allowed (0: not at all). */
const allowable = {
  measurement: {
    allow: (measurement: string) => encodeAllowMeasurement({ measurement }),
    revoke: (measurement: string) => encodeRevokeMeasurement({ measurement }),
    from: (measurement: string) => encodeMeasurementAllowedFrom({ measurement }),
    decode: decodeMeasurementAllowedFrom,
  },
  config: {
    allow: (config: string) => encodeAllowConfig({ config }),
    revoke: (config: string) => encodeRevokeConfig({ config }),
    from: (config: string) => encodeConfigAllowedFrom({ config }),
    decode: decodeConfigAllowedFrom,
  },
  platform: {
    allow: (platform: string) => encodeAllowPlatform({ platform }),
    revoke: (platform: string) => encodeRevokePlatform({ platform }),
    from: (platform: string) => encodePlatformAllowedFrom({ platform }),
    decode: decodePlatformAllowedFrom,
  },
} as const;
export type Kind = keyof typeof allowable;
export const kinds = Object.keys(allowable) as readonly Kind[];

/** The date that the contract keeps for a revoked platform. */
export const NEVER_AGAIN = 2n ** 64n - 1n;

/** Unix seconds since or from when nodes with it may join; 0 when not, NEVER_AGAIN for a platform that was revoked. */
export async function allowedFrom(
  kind: Kind,
  value: string,
  { call }: Pick<NetworkConnection, 'call'>,
  at: Head,
): Promise<bigint> {
  const { from, decode } = allowable[kind];
  return decode(await call(from(value), at));
}

export const allow = changePolicy(
  'allow',
  "lets a measurement, config or platform join, after the network's delay",
);
export const revoke = changePolicy(
  'revoke',
  'keeps new nodes with it out, at once (those that have joined keep the secret)',
);

function changePolicy(verb: 'allow' | 'revoke', summary: string): Command {
  return {
    name: `network ${verb}`,
    summary,
    positionals: ['measurement|config|platform', 'HEX|FILE|any'],
    options: { ...ownerOptions, tables: tablesOption },
    async run(args) {
      const [kind, value] = args.positionals as [string, string];
      if (!isKind(kind)) throw new UsageError(`${kind} is not one of measurement, config, platform`);
      if (kind === 'platform' && value === 'any') {
        const owner = await openOwner(args);
        return act(args, owner, await platformsDeed(verb, owner));
      }
      // Finds what is wrong with a file before any endpoint is asked.
      const named = await policyValue(kind, value, args.optional('tables'));
      const owner = await openOwner(args);
      named.requireOf(owner);
      await act(args, owner, await policyDeed(verb, kind, named, owner));
    },
  };
}

const isKind = (kind: string): kind is Kind => Object.hasOwn(allowable, kind);

/** 32 bytes, 0x-prefixed, and what a file says about them. */
interface Named {
  readonly value: string;
  readonly about: readonly string[];
  /** @throws NETWORK_JSON_OTHER for a file that is made for another network */
  requireOf(network: { readonly chainId: number; readonly contract: Address }): void;
}

async function policyDeed(
  verb: 'allow' | 'revoke',
  kind: Kind,
  { value, about }: Named,
  owner: NetworkConnection,
): Promise<Deed> {
  const what = allowable[kind];
  return {
    data: what[verb](value),
    effect: [
      verb === 'allow'
        ? `nodes with this ${kind} may join, ${await fromWhen(owner)}`
        : `no node with this ${kind} joins any more, at once; those that have joined keep the secret`,
      ...about,
    ],
    async proof(at) {
      return shownAs(verb, `${kind} ${value}`, await allowedFrom(kind, value, owner, at));
    },
  };
}

async function platformsDeed(verb: 'allow' | 'revoke', owner: NetworkConnection): Promise<Deed> {
  return {
    data: verb === 'allow' ? encodeOpenPlatforms() : encodeClosePlatforms(),
    effect: [
      verb === 'allow'
        ? `nodes on ANY platform that is not revoked may join, ${await fromWhen(owner)}`
        : 'only listed platforms may join, at once',
    ],
    async proof(at) {
      return shownAs(
        verb,
        'any platform',
        decodePlatformsOpenFrom(await owner.call(encodePlatformsOpenFrom(), at)),
      );
    },
  };
}

function shownAs(verb: 'allow' | 'revoke', what: string, from: bigint): Awaited<ReturnType<Deed['proof']>> {
  const isAllowed = from !== 0n && from !== NEVER_AGAIN;
  const text = isAllowed ? `${what} is allowed from ${instant(from)}` : `${what} is not allowed`;
  return isAllowed === (verb === 'allow') ? { done: [text] } : { instead: text };
}

/** When a change that loosens the rules takes effect. */
export async function fromWhen({ reader, chain }: NetworkConnection): Promise<string> {
  const head = await chain.head();
  const { delay, epoch } = await reader.network(head);
  if (epoch === 0) return 'at once: the network has no secret yet';
  return delay === 0
    ? 'at once: the network has no delay'
    : `after the network's delay of ${showDuration(delay)}, about ${instant(BigInt(head.timestamp) + BigInt(delay))}`;
}

/** 32 bytes of hex are taken as they are; of a file, the value is computed: the image beside image.json is measured, network.json is hashed. */
async function policyValue(kind: Kind, value: string, tables: string | undefined): Promise<Named> {
  if (/^(0x)?[0-9a-fA-F]{64}$/.test(value)) {
    return { value: to0x(fromHex(value, 32)), about: [], requireOf: () => {} };
  }
  // An image is a folder, of which one file says nothing.
  const isRead = value === '-' && kind === 'config';
  const isFile = isRead || (statSync(value, { throwIfNoEntry: false })?.isFile() ?? false);
  if (!isFile) {
    throw new UsageError(`${value} is neither 32 bytes of hex nor a file that can be read`, 'POLICY_VALUE');
  }
  if (kind === 'config') return configOf(value);
  if (kind === 'measurement') return imageOf(value, tables);
  throw new UsageError(
    `a ${kind} is not read from a file (${value}): give 32 bytes of hex, as the host prints them`,
    'POLICY_VALUE',
  );
}

/** Every node that boots with it believes whoever runs a quorum of its endpoints, and orders certificates as it says: all is shown. */
function configOf(file: string): Named {
  const bytes = readGiven('network.json', file);
  const config = parseOwnersConfig(bytes, file);
  const { endpoints, quorum, confirmation, minimumNodes, supersededGrace = SUPERSEDED_GRACE } = config;
  const rule =
    'finalized' in confirmation ? 'the finalized block' : `${confirmation.depth} blocks below the newest`;
  return {
    value: to0x(configHash(bytes)),
    about: [
      `such nodes believe ${quorum} of these ${endpoints.length}, at ${rule}; production apps wait for ${minimumNodes ?? 2} nodes:`,
      ...endpoints.map((url) => `  ${url}`),
      `a version of an app that was replaced ends ${supersededGrace} s later, and every app when the contract was not read for so long`,
      ...(config.rawQuotes === undefined
        ? []
        : [
            `the app ${config.rawQuotes} gets quotes over any report data: no quote alone proves another app's word`,
          ]),
      ...(config.store?.owner === undefined
        ? []
        : [
            `the app ${config.store.owner} reads what every app and the signer keep in the store, and can stop their writes`,
          ]),
      ...publicLines(config),
      ...clientLines(config),
      ...siteLines(config),
    ],
    requireOf: (network) => requireSameNetwork(config, network, file),
  };
}

/** What everyone will be able to read, for ever. */
function publicLines({ store }: NetworkConfig): readonly string[] {
  return Object.entries(store?.public ?? {}).flatMap(([app, prefixes]) =>
    prefixes.map(
      (prefix) =>
        `PUBLIC in the store's ledger: keys of ${app}${prefix === '' ? ', all of them' : ` that begin with ${prefix}`}`,
    ),
  );
}

/** Who comes into the store from outside. */
function clientLines({ store }: NetworkConfig): readonly string[] {
  return Object.entries(store?.clients ?? {}).flatMap(([app, { names, authorities, revokedKeys = [] }]) => [
    `FROM OUTSIDE clients reach what ${app} keeps in the store, at ${names.join(', ')}: users of ${app} with a certificate signed by`,
    ...authorities.map((pem) => {
      const { subject, fingerprint256 } = new X509Certificate(pem);
      return `  ${printable(subject.replaceAll('\n', ', '))}, SHA-256 ${fingerprint256.replaceAll(':', '').toLowerCase()}`;
    }),
    ...(revokedKeys.length === 0 ? [] : [`  but for ${revokedKeys.length} keys that are revoked`]),
  ]);
}

/** Whose website the nodes will be, who certifies it, and which roots they trust besides their image's. */
function siteLines({ site }: NetworkConfig): readonly string[] {
  if (site === undefined) return [];
  const { domains, acme, roots = [] } = site;
  return [
    `the website's names: ${domains.join(', ')}`,
    ...(acme === undefined
      ? []
      : [
          `certificates from ${acme.directory}, by ${acme.challenges.join(', ')}`,
          ...(acme.contact ?? []).map((contact) => `  which may write to ${contact}`),
        ]),
    ...roots.map((pem) => `TRUSTED ROOT besides the image's own: SHA-256 ${toHex(rootFingerprint(pem))}`),
  ];
}

/** SHA-256 of the certificate's DER, as `openssl x509 -fingerprint -sha256` has it. */
function rootFingerprint(pem: string): Uint8Array {
  return sha256(Buffer.from(pem.replace(/-----[A-Z ]+-----|\n/g, ''), 'base64'));
}

/** The files beside image.json are measured; the measurement in it is only compared. */
async function imageOf(file: string, tables: string | undefined): Promise<Named> {
  if (basename(file) !== 'image.json') {
    throw new UsageError(
      `${file} is not the image.json of an image, so there is nothing to measure`,
      'POLICY_VALUE',
    );
  }
  const image = await openImage(dirname(file));
  const { flavour, defaultShape, measurement: said } = image.manifest;
  if (flavour === 'production') {
    const { cpus, memoryMiB } = defaultShape;
    return {
      value: productionMeasurement(image, defaultShape, tables),
      about: [
        `computed for TDX from the files in ${dirname(file)} and ${tables}: a production image, ${cpus} CPUs and ${memoryMiB} MiB`,
      ],
      requireOf: () => {},
    };
  }
  const value = to0x(measurementOf(await registersOf(image, defaultShape)));
  if (value !== said) {
    throw new DstackError(
      'MEASUREMENT_OTHER',
      `${file} says measurement ${said}, but the files beside it have ${value}: build the image again`,
    );
  }
  const { cpus, memoryMiB } = defaultShape;
  return {
    value,
    about: [
      `measured from the files in ${dirname(file)}: a ${flavour} image, ${cpus} CPUs and ${memoryMiB} MiB`,
    ],
    requireOf: () => {},
  };
}
