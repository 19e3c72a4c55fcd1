/**
 * The calls of dstack's ecosystem, as its client makes them (npm @phala/dstack-sdk 0.5.8): JSON by POST, bytes in hex, refusals as
 * `{error}`. What each answer means here, and what is refused, is in docs/agent.md.
 */
import { createHash, createPrivateKey, generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { type Static, type TSchema, Type } from 'typebox';
import { encodePem } from '../../lib/attestation/bytes/pem.ts';
import {
  ecosystemAppId,
  SIGNING_ALGORITHMS,
  type SigningAlgorithm,
  verifySignature,
} from '../../lib/protocol/app-keys.ts';
import { fromHex, lengthPrefixed, sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { parseHex } from '../../lib/protocol/hex.ts';
import type { AgentApi } from '../../lib/protocol/manifest.ts';
import { p256PublicKey } from '../../lib/protocol/site-evidence.ts';
import { AppCertificateRequest, KeyTag, SIGN_MAX_BYTES } from '../../lib/protocol/sockets.ts';
import type { Caller } from '../callers.ts';
import { attestationCall, eventLogOf } from './answers.ts';
import type { Siblings } from './siblings.ts';

/** What the client that these calls are made for calls itself, and what answers it. */
const VERSION = { version: '0.5.8', rev: 'dstack/v1' } as const;
/** By which key the ecosystem's agents sign, and what for. */
const SIGN_TAG = 'vms';
const SIGN_PURPOSE = 'signing';
/** The tag under which report data is attested. */
const ATTEST_TAG = 'attest';
const REPORT_DATA_BYTES = 64;
/** Before the report data that `Tappd.TdxQuote` hashes. */
const APP_DATA = 'app-data:';
const HASHES: readonly string[] = ['sha256', 'sha384', 'sha512', 'sha3-256', 'sha3-384', 'sha3-512'];

export interface EcosystemCall {
  readonly path: string;
  /** Words of the manifest's `api` that it needs; of `any`, one of whichever. */
  readonly words: readonly AgentApi[] | 'any';
  readonly request: TSchema;
  answer(caller: Caller, asked: never, siblings: Siblings): Promise<object>;
}

/** Fields that are not known are let by: clients of other releases send more. */
const Asked = <T extends Record<string, TSchema>>(properties: T) => Type.Object(properties);
const Bytes = (most: number) =>
  Type.String({
    pattern: '^([0-9a-fA-F]{2})*$',
    maxLength: 2 * most,
    description: `up to ${most} bytes of hex, without 0x`,
  });
const Flag = Type.Optional(Type.Boolean());
const Names = Type.Optional(AppCertificateRequest.properties.altNames);
const Seconds = Type.Optional(Type.Integer({ minimum: 0, maximum: 253_402_300_799 }));
const Text = Type.Optional(KeyTag);
const Word = Type.Optional(Type.String({ maxLength: 32 }));
const ReportData = Bytes(REPORT_DATA_BYTES);
const Subject = Type.Optional(AppCertificateRequest.properties.subject);

const call = <Q extends TSchema>(
  path: string,
  words: EcosystemCall['words'],
  request: Q,
  answer: (caller: Caller, asked: Static<Q>, siblings: Siblings) => Promise<object>,
): EcosystemCall => ({ path, words, request, answer: answer as EcosystemCall['answer'] });

const TlsAsked = Asked({
  subject: Subject,
  alt_names: Names,
  usage_ra_tls: Flag,
  usage_server_auth: Flag,
  usage_client_auth: Flag,
  not_before: Seconds,
  not_after: Seconds,
  with_app_info: Flag,
});

export const ecosystemCalls: readonly EcosystemCall[] = [
  call(
    '/GetKey',
    ['key'],
    Asked({ path: Text, purpose: Text, algorithm: Word }),
    async ({ app }, { path = '', purpose = '', algorithm = '' }, siblings) => {
      const type = algorithm === 'ed25519' ? 'ed25519' : secp256k1(algorithm);
      const { key, chain } = await siblings.appKey(app, path, type, purpose);
      return { key, signature_chain: chain };
    },
  ),

  call('/GetTlsKey', ['key'], TlsAsked, async (caller, asked, siblings) => {
    const { privateKey } = await promisify(generateKeyPair)('ec', { namedCurve: 'P-256' });
    return tlsKey(caller, asked, privateKey, siblings);
  }),

  call(
    '/GetQuote',
    ['quote'],
    Asked({ report_data: ReportData }),
    async ({ app }, { report_data }, siblings) => {
      const reportData = padded(fromHex(report_data));
      const { quote } = await siblings.rawQuote(app, reportData);
      const machine = await siblings.machine();
      return {
        quote,
        event_log: JSON.stringify(eventLogOf(machine)),
        report_data: reportData,
        vm_config: JSON.stringify(await vmConfig(siblings)),
      };
    },
  ),

  call(
    '/Attest',
    ['attest'],
    Asked({ report_data: ReportData }),
    async ({ app }, { report_data }, siblings) => {
      const data = report_data.toLowerCase();
      const { signature } = await siblings.attest(app, ATTEST_TAG, data);
      return { attestation: attestationCall(app, ATTEST_TAG, data, signature).slice(2) };
    },
  ),

  call(
    '/Sign',
    ['sign'],
    Asked({ algorithm: Type.String({ maxLength: 32 }), data: Bytes(SIGN_MAX_BYTES) }),
    async ({ app }, { algorithm, data }, siblings) => {
      const { signature, publicKey, chain } = await siblings.sign(app, {
        tag: SIGN_TAG,
        purpose: SIGN_PURPOSE,
        algorithm: signingAlgorithm(algorithm),
        data: data.toLowerCase(),
      });
      return { signature, signature_chain: [signature, ...chain], public_key: publicKey };
    },
  ),

  call(
    '/Verify',
    'any',
    Asked({
      algorithm: Type.String({ maxLength: 32 }),
      data: Bytes(SIGN_MAX_BYTES),
      signature: Bytes(65),
      public_key: Bytes(65),
    }),
    async (_, { algorithm, data, signature, public_key }) => ({
      valid: verifySignature(
        signingAlgorithm(algorithm),
        fromHex(data),
        fromHex(signature),
        fromHex(public_key),
      ),
    }),
  ),

  call('/Info', ['info'], Asked({}), info),
  call('/Version', 'any', Asked({}), async () => VERSION),

  // The client takes any JSON for success: server.ts answers this one in words.
  call('/EmitEvent', 'any', Asked({}), async () => {
    throw new DstackError(
      'EVENTS_CLOSED',
      'RTMR3 was closed when the node joined: no app can extend it. Have data quoted instead, POST /v1/quote',
    );
  }),

  // Its key follows from the path, as it did where the call comes from.
  call(
    '/prpc/Tappd.DeriveKey',
    ['key'],
    Asked({ ...TlsAsked.properties, path: Text, random_seed: Flag }),
    async (caller, { path = '', ...asked }, siblings) => {
      const { key } = await siblings.appKey(caller.app, path, 'p256');
      return tlsKey(caller, asked, p256KeyOf(fromHex(key)), siblings);
    },
  ),

  call(
    '/prpc/Tappd.TdxQuote',
    ['quote'],
    Asked({ report_data: Bytes(SIGN_MAX_BYTES), hash_algorithm: Word }),
    async ({ app }, { report_data, hash_algorithm }, siblings) => {
      const algorithm = hash_algorithm || 'sha512';
      const data = fromHex(report_data);
      const reportData = algorithm === 'raw' ? padded(data) : padded(hashed(algorithm, data));
      const { quote } = await siblings.rawQuote(app, reportData);
      const machine = await siblings.machine();
      return {
        quote,
        event_log: JSON.stringify(eventLogOf(machine)),
        hash_algorithm: algorithm,
        prefix: algorithm === 'raw' ? '' : APP_DATA,
      };
    },
  ),

  call('/prpc/Tappd.Info', ['info'], Asked({}), info),
];

async function info(caller: Caller, _: object, siblings: Siblings): Promise<object> {
  const { app, manifestHash } = caller;
  const [about, machine, { text }, authority] = await Promise.all([
    siblings.info(),
    siblings.machine(),
    siblings.manifest(manifestHash),
    siblings.authority(app),
  ]);
  const { platform, measurement, networkKey } = about;
  const { mrtd, rtmr0, rtmr1, rtmr2, rtmr3 } = machine;
  const appId = ecosystemAppId(about, app);
  const os = sha256(...[mrtd, rtmr1, rtmr2].map((register) => fromHex(register)));
  return {
    app_id: toHex(appId),
    instance_id: toHex(
      sha256(lengthPrefixed([utf8('dstack/v1/instance'), fromHex(platform), appId])).subarray(0, 20),
    ),
    app_cert: encodePem(fromHex(authority.certificate)),
    tcb_info: JSON.stringify({
      ...{ mrtd, rtmr0, rtmr1, rtmr2, rtmr3 },
      mr_aggregated: measurement,
      os_image_hash: toHex(os),
      compose_hash: manifestHash,
      device_id: platform,
      event_log: eventLogOf(machine),
      app_compose: text,
    }),
    app_name: app,
    device_id: platform,
    mr_aggregated: measurement,
    os_image_hash: toHex(os),
    key_provider_info: JSON.stringify({ name: 'dstack-network', id: networkKey }),
    compose_hash: manifestHash,
    vm_config: JSON.stringify(await vmConfig(siblings)),
  };
}

/** What the ecosystem calls the machine's configuration: here it says which network and image it is. */
async function vmConfig(siblings: Siblings): Promise<object> {
  const { chainId, contract, config, flavour, measurement } = await siblings.info();
  return { chainId, contract, config, flavour, measurement };
}

/** A key as PKCS #8 in PEM, and the certificates from it to the app's authority. @throws API_NOT_GRANTED for a quote without the word */
async function tlsKey(
  { app, manifestHash, api }: Caller,
  asked: Static<typeof TlsAsked>,
  privateKey: KeyObject,
  siblings: Siblings,
): Promise<object> {
  const quoted = asked.usage_ra_tls === true;
  if (quoted && !api.includes('quote')) {
    throw new DstackError('API_NOT_GRANTED', 'a certificate with a quote (usage_ra_tls) needs "quote", too');
  }
  const { d } = privateKey.export({ format: 'jwk' });
  const publicKey = p256PublicKey(new Uint8Array(Buffer.from(d!, 'base64url')));
  const { chain } = await siblings.certificate({
    app,
    manifestHash,
    publicKey: toHex(publicKey),
    subject: asked.subject ?? '',
    altNames: asked.alt_names ?? [],
    serverAuth: asked.usage_server_auth ?? true,
    clientAuth: asked.usage_client_auth ?? false,
    quoted,
    named: asked.with_app_info ?? false,
    ...(asked.not_before === undefined ? {} : { notBefore: asked.not_before }),
    ...(asked.not_after === undefined ? {} : { notAfter: asked.not_after }),
  });
  return {
    key: privateKey.export({ format: 'pem', type: 'pkcs8' }),
    certificate_chain: chain.map((der) => encodePem(fromHex(der))),
  };
}

function p256KeyOf(scalar: Uint8Array): KeyObject {
  const point = p256PublicKey(scalar).subarray(-64);
  const url = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64url');
  const [x, y] = [url(point.subarray(0, 32)), url(point.subarray(32))];
  return createPrivateKey({ format: 'jwk', key: { kty: 'EC', crv: 'P-256', d: url(scalar), x, y } });
}

function padded(bytes: Uint8Array) {
  if (bytes.length > REPORT_DATA_BYTES)
    throw new DstackError('BAD_DATA', `report data has at most ${REPORT_DATA_BYTES} bytes`);
  return parseHex(toHex(bytes).padEnd(2 * REPORT_DATA_BYTES, '0'));
}

function hashed(algorithm: string, data: Uint8Array): Uint8Array {
  if (!HASHES.includes(algorithm)) throw unsupported(algorithm, HASHES);
  return new Uint8Array(createHash(algorithm).update(APP_DATA).update(data).digest());
}

function secp256k1(algorithm: string): 'secp256k1' {
  if (algorithm === '' || algorithm === 'secp256k1' || algorithm === 'k256') return 'secp256k1';
  throw unsupported(algorithm, ['secp256k1']);
}

function signingAlgorithm(algorithm: string): SigningAlgorithm {
  if (algorithm === 'k256') return 'secp256k1';
  const found = SIGNING_ALGORITHMS.find((known) => known === algorithm);
  if (found === undefined) throw unsupported(algorithm, SIGNING_ALGORITHMS);
  return found;
}

const unsupported = (algorithm: string, known: readonly string[]) =>
  new DstackError(
    'BAD_ALGORITHM',
    `${JSON.stringify(algorithm.slice(0, 40))} is no algorithm of this call, which takes ${known.join(', ')}`,
  );
