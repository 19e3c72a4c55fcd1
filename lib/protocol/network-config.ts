/**
 * `network.json` and `host.json`: what a VM is told at boot.
 *
 * network.json is measured: its raw bytes hash to `config`, which must be in the contract's allowed configs, because
 * whoever runs a quorum of its endpoints is trusted until chain reads are proven. host.json is a hint from the
 * untrusted host: the worst it can do is to deny service.
 */
import { type Static, Type } from 'typebox';
import { sha256 } from './encoding.ts';
import { DstackError } from './errors.ts';
import { Address0x, AppName, Count, HexOf, IPv4, parseJson, Strict } from './schema.ts';
import { ChainId } from './signer-part.ts';
import { SIGNER_VALIDATORS } from './signer-status.ts';
import { unusableClients } from './store-clients.ts';
import { tooPublic } from './store-public.ts';
import { keptMiB } from './store-shares.ts';

/** A host name as the DNS and certificates have it, in lower case (RFC 1123, section 2.1); of two labels at least. */
export const DomainName = Type.String({
  pattern: '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$',
  minLength: 3,
  maxLength: 253,
  description: 'a domain in lower case, of two labels or more, without scheme, port and final dot',
});
const HttpsUrl = Type.String({ minLength: 10, maxLength: 300, pattern: '^https://[^\\s@]+$' });

/** The website's names, and who certifies them: docs/site-certificates.md. */
export const SiteConfigSchema = Strict({
  /** One certificate is for all of them. */
  domains: Type.Array(DomainName, { minItems: 1, maxItems: 20, uniqueItems: true }),
  /** Left out: the guest orders none, and takes what is brought to it. */
  acme: Type.Optional(
    Strict({
      /** The authority's directory (RFC 8555, section 7.1.1). */
      directory: HttpsUrl,
      /** Whom the authority may write to. */
      contact: Type.Optional(
        Type.Array(Type.String({ maxLength: 260, pattern: '^mailto:[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+$' }), {
          minItems: 1,
          maxItems: 4,
          uniqueItems: true,
        }),
      ),
      /** The names by which CAA records mean the authority; left out: those that its directory says (`caaIdentities`). */
      issuers: Type.Optional(Type.Array(DomainName, { minItems: 1, maxItems: 8, uniqueItems: true })),
      /** How the guest may show the authority that the names are its own: the first of these that it offers. */
      challenges: Type.Array(
        Type.Union([Type.Literal('http-01'), Type.Literal('tls-alpn-01'), Type.Literal('dns-persist-01')]),
        { minItems: 1, maxItems: 3, uniqueItems: true },
      ),
      /** One of the authority's kinds of certificates, where it has several (draft-ietf-acme-profiles). */
      profile: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$', maxLength: 64 })),
      /** Seconds within which the nodes of a network without a certificate spread their first orders; 600 by default. */
      firstWithin: Type.Optional(Type.Integer({ minimum: 0, maximum: 86_400 })),
    }),
  ),
  /**
   * Resolvers that speak DNS over HTTPS (RFC 8484), of different operators: by them the guest sees what the DNS says of who may
   * certify the names. Left out: that is never known.
   */
  resolvers: Type.Optional(Type.Array(HttpsUrl, { minItems: 2, maxItems: 8, uniqueItems: true })),
  /** Roots that count besides the image's own, PEM, for an authority of a test: sim and dev only. */
  roots: Type.Optional(
    Type.Array(
      Type.String({
        maxLength: 4096,
        pattern: '^-----BEGIN CERTIFICATE-----\\n[A-Za-z0-9+/=\\n]+-----END CERTIFICATE-----\\n?$',
      }),
      { minItems: 1, maxItems: 4 },
    ),
  ),
});
export type SiteConfig = Static<typeof SiteConfigSchema>;

/** Whom an app's part of the store is open to from outside of the VM. */
const StoreClientsSchema = Strict({
  /** At which they reach it: by the name that a client's TLS asks for, its app is found. */
  names: Type.Array(Type.Union([DomainName, Type.Literal('localhost')]), {
    minItems: 1,
    maxItems: 8,
    uniqueItems: true,
  }),
  /** Who certifies them, PEM: a client's certificate is signed by one of these itself, and no other counts. */
  authorities: Type.Array(
    Type.String({
      maxLength: 4096,
      pattern: '^-----BEGIN CERTIFICATE-----\\n[A-Za-z0-9+/=\\n]+-----END CERTIFICATE-----\\n?$',
      description: 'one certificate of an authority, in PEM',
    }),
    { minItems: 1, maxItems: 8, uniqueItems: true },
  ),
  /**
   * Keys of clients that are refused, whatever certificate they come with: SHA-256 of the SubjectPublicKeyInfo, hex. A certificate's own
   * fingerprint would not do: who has it can write its signature in another way.
   */
  revokedKeys: Type.Optional(Type.Array(HexOf(32), { maxItems: 256, uniqueItems: true })),
});
export type StoreClients = Static<typeof StoreClientsSchema>;

/** The store that apps find at `dstack-guest:2379`: docs/kv.md. */
export const StoreConfigSchema = Strict({
  /** What its database may have on the data disk, MiB; 256 when left out. A store that is full refuses writes. */
  quotaMiB: Type.Optional(Type.Integer({ minimum: 16, maximum: 8192 })),
  /** What an app may keep in it, MiB; an eighth of the quota when left out. */
  shareMiB: Type.Optional(Type.Integer({ minimum: 1, maximum: 3072 })),
  /** What the apps of these names may keep, MiB: it is theirs alone. */
  shares: Type.Optional(
    Type.Record(AppName, Type.Integer({ minimum: 1, maximum: 3072 }), {
      additionalProperties: false,
      maxProperties: 250,
    }),
  ),
  /**
   * The one app that maintains the store for the contract's owner: it gets etcd's Maintenance service and /metrics, and so, by a snapshot,
   * what every app and every daemon keeps. Left out: nobody does.
   */
  owner: Type.Optional(AppName),
  /**
   * What everyone may read in the store's ledger: by app, what its keys begin with; "" is all of them. Left out, and for all other keys, there
   * are salted hashes.
   */
  public: Type.Optional(
    Type.Record(
      AppName,
      Type.Array(
        Type.String({
          pattern: '^[!-~]*$',
          maxLength: 90,
          description: 'up to 90 visible ASCII characters, without spaces',
        }),
        { minItems: 1, maxItems: 32, uniqueItems: true },
      ),
      { additionalProperties: false, maxProperties: 32 },
    ),
  ),
  /** Apps whose part of the store clients outside of the VM may use. Left out: no client outside reaches any of it. */
  clients: Type.Optional(
    Type.Record(AppName, StoreClientsSchema, { additionalProperties: false, maxProperties: 16 }),
  ),
});
export type StoreConfig = Static<typeof StoreConfigSchema>;

export const NetworkConfigSchema = Strict({
  version: Type.Literal(1),
  chainId: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
  contract: Address0x,
  /** Blocks on top of a state before it counts, or the chain's own `finalized`. */
  confirmation: Type.Union([
    Strict({ depth: Type.Integer({ minimum: 0, maximum: 1000 }) }),
    Strict({ finalized: Type.Literal(true) }),
  ]),
  /** JSON-RPC endpoints as the guest reaches them: https, or plain http in the sim and dev flavours only. */
  endpoints: Type.Array(Type.String({ minLength: 8, maxLength: 300, pattern: '^https?://[^\\s@]+$' }), {
    minItems: 1,
    maxItems: 16,
    uniqueItems: true,
  }),
  /** How many endpoints must give the same answer. */
  quorum: Type.Integer({ minimum: 1, maximum: 16 }),
  /**
   * Nodes that must have been given the secret before apps start; 2 when left out. The contract tells one from more than
   * one, and no more: a count would cost every onboarding another 2,900 gas.
   */
  minimumNodes: Type.Optional(Type.Integer({ minimum: 1, maximum: 2 })),
  /**
   * Seconds, by the chain's clock, for which a node still runs an app whose manifest is no longer the one in force, because the new
   * one does not come up; or any app while the contract cannot be read. A day when left out. A confirmed block may be an hour old.
   */
  supersededGrace: Type.Optional(Type.Integer({ minimum: 7200, maximum: 30 * 86_400 })),
  /**
   * The one app that gets quotes over any 64 bytes. With such a quote it can say what no other quote of the network may be believed for
   * any more, of any app: so a website's evidence carries it. Left out: no app does.
   */
  rawQuotes: Type.Optional(AppName),
  /** Left out: the website has the network's self-signed certificate alone. */
  site: Type.Optional(SiteConfigSchema),
  /** Left out: nodes have no store. With it they need a data disk. */
  store: Type.Optional(StoreConfigSchema),
});
export type NetworkConfig = Static<typeof NetworkConfigSchema>;

/** Where validators and sentries listen for their signer (`priv_validator_laddr`). */
export const ValidatorsSchema = Type.Array(
  Strict({ chain: ChainId, address: IPv4, port: Type.Integer({ minimum: 1, maximum: 65535 }) }),
  { maxItems: SIGNER_VALIDATORS },
);
export type Validators = Static<typeof ValidatorsSchema>;

export const HostHintsSchema = Strict({
  role: Type.Optional(Type.Union([Type.Literal('bootstrap'), Type.Literal('join')])),
  /** `create` lets the node format a blank data disk; nothing else ever formats one. */
  disk: Type.Optional(Type.Literal('create')),
  /** Whoever is there is asked nothing, and gets signatures that the record allows. */
  validators: Type.Optional(ValidatorsSchema),
});
export type HostHints = Static<typeof HostHintsSchema>;

/** What `supersededGrace` is when it is left out, in seconds. */
export const SUPERSEDED_GRACE = 86_400;

/** The largest network.json or host.json that is read, in bytes. */
export const CONFIG_MAX_BYTES = 64 * 1024;

/** @throws NETWORK_CONFIG for anything that is not a usable network.json of this flavour */
export function parseNetworkConfig(bytes: Uint8Array, flavour: Flavour): NetworkConfig {
  const text = new TextDecoder('utf-8', { fatal: false }).decode(bytes);
  const config = parseJson(NetworkConfigSchema, text, 'NETWORK_CONFIG', 'network.json', CONFIG_MAX_BYTES);
  if (config.quorum > config.endpoints.length || config.quorum * 2 <= config.endpoints.length) {
    throw new DstackError(
      'NETWORK_CONFIG',
      `network.json asks for a quorum of ${config.quorum} of ${config.endpoints.length} endpoints; it must be a majority of them`,
    );
  }
  const named = Object.values(config.store?.shares ?? {}).reduce((sum, share) => sum + share, 0);
  const kept = keptMiB(config.store ?? {});
  if (named > kept || (config.store?.shareMiB ?? 0) > kept) {
    throw new DstackError(
      'NETWORK_CONFIG',
      `store.shares and store.shareMiB are too much: apps may keep ${kept} MiB of the database together; make store.quotaMiB larger, or shares smaller`,
    );
  }
  const tooMuch = tooPublic(config.store ?? {});
  if (tooMuch !== undefined) throw new DstackError('NETWORK_CONFIG', tooMuch);
  const unusable = unusableClients(config.store ?? {});
  if (unusable !== undefined) throw new DstackError('NETWORK_CONFIG', unusable);
  const plain = config.endpoints.find((url) => !url.startsWith('https://'));
  if (flavour === 'production' && plain !== undefined) {
    throw new DstackError(
      'NETWORK_CONFIG',
      `a production image reads the chain over https only, not ${plain}`,
    );
  }
  const resolvers = (config.site?.resolvers ?? []).map((url) => (URL.canParse(url) ? new URL(url).host : ''));
  if (resolvers.includes('') || new Set(resolvers).size < resolvers.length) {
    throw new DstackError('NETWORK_CONFIG', 'site.resolvers are URLs of different servers');
  }
  if (flavour === 'production' && config.site?.roots !== undefined) {
    throw new DstackError(
      'NETWORK_CONFIG',
      'a production image trusts the roots that are in it, and site.roots is none of them',
    );
  }
  return config;
}

/** @throws HOST_HINTS */
export function parseHostHints(bytes: Uint8Array): HostHints {
  return parseJson(
    HostHintsSchema,
    new TextDecoder().decode(bytes),
    'HOST_HINTS',
    'host.json',
    CONFIG_MAX_BYTES,
  );
}

/** `config`: SHA-256 of the raw bytes of network.json. */
export function configHash(bytes: Uint8Array): Uint8Array {
  return sha256(bytes);
}

/** What an image is for. They differ by measured bytes only; every one but production can be told by RTMR3. */
export const FlavourSchema = Type.Union([
  Type.Literal('production'),
  Type.Literal('sim'),
  Type.Literal('dev'),
]);
export type Flavour = Static<typeof FlavourSchema>;
export const flavours: readonly Flavour[] = FlavourSchema.anyOf.map((flavour) => flavour.const);

/** The `flavour.json` inside an image, from which its daemons know what they are part of. */
export const ImageInfoSchema = Strict({
  version: Type.Literal(1),
  flavour: FlavourSchema,
  /** Unix seconds; no clock of a node is ever before it. */
  builtAt: Count,
});
export type ImageInfo = Static<typeof ImageInfoSchema>;
