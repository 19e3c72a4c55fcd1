/** `app secret set` and `app secret list`: what an owner seals to an app, and where it lies. docs/apps.md has the whole way. */
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { httpJson } from '../../host/http-json.ts';
import { writeDurably } from '../../lib/daemon/durable-file.ts';
import {
  requireSealingKey,
  type SealingKeyMessage,
  SealingKeyMessageSchema,
  sealSecret,
} from '../../lib/protocol/app-secrets.ts';
import { sha256, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Address, sameAddress, ZERO_ADDRESS } from '../../lib/protocol/hex.ts';
import { appId } from '../../lib/protocol/manifest.ts';
import { ErrorReplySchema, nodePaths } from '../../lib/protocol/onboarding-messages.ts';
import { check, SecretName } from '../../lib/protocol/schema.ts';
import { SECRET_MAX_BYTES } from '../../lib/protocol/sockets.ts';
import { answer } from '../answers.ts';
import { secretLines, secretsIn } from '../app/envelopes.ts';
import { prepareVolumes } from '../app/volume.ts';
import { type Arguments, type Command, narration, narrationOptions, typed, UsageError } from '../command.ts';
import { chainName } from '../owner/chains.ts';
import { chainOptions, connectNetwork, contractOption, type NetworkConnection } from '../owner/connection.ts';

/** A relay may wait for its node, and the node computes. Milliseconds. */
const ASKED_WITHIN = 60_000;
const REPLY_MAX_BYTES = 64 * 1024;

const set: Command = {
  name: 'app secret set',
  summary: 'seals a value to an app: reads it from a file or standard input, writes its envelope',
  positionals: ['NAME', 'SECRET'],
  options: {
    ...chainOptions,
    contract: contractOption,
    relay: {
      value: 'URL',
      help: "a relay of the network (its gossip port), or a node's own port on its host: says which key to seal to, which is checked",
      required: true,
    },
    file: { value: 'FILE', help: 'the value, as it is; without this, standard input' },
    out: {
      value: 'DIR',
      help: 'the host volume of a VM; may be given several times',
      multiple: true,
      required: true,
    },
    ...narrationOptions,
  },
  async run(args) {
    const [app, name] = args.positionals as [string, string];
    typed(() => {
      appId(app);
      check(SecretName, name, 'SECRET_NAME', `the name of a secret, ${JSON.stringify(name.slice(0, 80))},`);
    });
    const relay = relayOf(args);
    const value = await givenValue(args);
    try {
      const network = await connectNetwork(args);
      const { chainId, contract } = network;
      const networkKey = await networkKeyOf(network);
      const said = await askSealingKey(relay, app);
      const publicKey = requireSealingKey(said, { chainId, contract, app, networkKey });
      await prepareVolumes(args.list('out'), ['secrets']);
      const say = narration(args);
      say(
        `secret    ${name} of ${app}, ${describeValue(value)}`,
        `for       contract ${contract} on ${chainName(chainId)}, read by ${network.sources}`,
        `sealed to key ${toHex(sha256(publicKey))}, which network key ${networkKey} has signed for ${app}`,
      );
      const envelope = await sealSecret(value, { chainId, contract, app, name }, publicKey);
      const hash = toHex(sha256(envelope));
      const files = args.list('out').map((volume) => write(volume, hash, envelope));
      say(
        ...files.map((file) => `envelope  ${file}`),
        `manifest  ${JSON.stringify({ envelope: hash, name })}`,
        `to use it: npx dstack app pack ${app} … --secret ${name}=${files[0]}`,
      );
      const sealedTo = toHex(sha256(publicKey));
      answer(args, 'app secret set', {
        app,
        secret: name,
        chainId,
        contract,
        networkKey,
        sealedTo,
        envelope: hash,
        files,
      });
    } finally {
      value.fill(0);
    }
  },
};

/** @throws NETWORK_NOT_BOOTSTRAPPED */
async function networkKeyOf({ chain, reader }: NetworkConnection): Promise<Address> {
  const { networkKey } = await reader.network(await chain.head());
  if (!sameAddress(networkKey, ZERO_ADDRESS)) return networkKey;
  throw new DstackError(
    'NETWORK_NOT_BOOTSTRAPPED',
    'the network has no key yet: nothing can be sealed to its nodes before it is bootstrapped',
  );
}

/** @throws HTTP_UNREACHABLE, HTTP_…, RELAY_REPLY, or what relay or node answers */
async function askSealingKey(relay: string, app: string): Promise<SealingKeyMessage> {
  const url = relay + nodePaths.sealingKey;
  const reply = await httpJson({ url, body: { app }, timeout: ASKED_WITHIN, maxBytes: REPLY_MAX_BYTES });
  if (reply.status === 200)
    return check(SealingKeyMessageSchema, reply.value, 'RELAY_REPLY', `the reply of ${url}`);
  const { code, message } = check(ErrorReplySchema, reply.value, 'RELAY_REPLY', `the refusal of ${url}`);
  throw new DstackError(code, `${url}: ${message}`);
}

/** The base URL. @throws USAGE */
function relayOf(args: Arguments): string {
  const url = args.text('relay');
  if (/^https?:\/\/[^\s]+$/.test(url) && URL.canParse(url)) return url.replace(/\/$/, '');
  throw new UsageError(`--relay takes an http(s) URL, not ${JSON.stringify(url.slice(0, 100))}`);
}

/** Never from an argument, which every process of the machine can read. @throws FILE, USAGE, SECRET_TOO_LARGE */
async function givenValue(args: Arguments): Promise<Buffer> {
  const file = args.optional('file');
  if (file === undefined && process.stdin.isTTY)
    throw new UsageError('the value comes from --file FILE or standard input: what is typed would be shown');
  const value = await bounded(file === undefined ? process.stdin : createReadStream(file), file);
  // A line break alone is what `echo $UNSET` writes.
  if (/^[ \t\r\n]*$/.test(value.toString('latin1')))
    throw new UsageError(
      `the value is ${value.length === 0 ? 'empty' : 'white space only'}: is what should have written it at fault?`,
    );
  return value;
}

/** Whatever is given, such as a disk or a pipe that never ends, no more of it is read than could be sealed. */
async function bounded(source: Readable, file: string | undefined): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of source) {
      chunks.push(chunk as Buffer);
      size += (chunk as Buffer).length;
      if (size > SECRET_MAX_BYTES)
        throw new DstackError(
          'SECRET_TOO_LARGE',
          `a secret has at most ${SECRET_MAX_BYTES} bytes, this one has more`,
        );
    }
  } catch (cause) {
    if (cause instanceof DstackError) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    throw new DstackError('FILE', `cannot read ${file ?? 'standard input'} (the value): ${code}`, { cause });
  }
  return Buffer.concat(chunks);
}

/** Most often a line break was not meant: `echo` writes one. */
const describeValue = (value: Buffer): string =>
  `${value.length} bytes${value.at(-1) === 0x0a ? ', the last of them a line break' : ''}`;

function write(volume: string, hash: string, envelope: Uint8Array): string {
  const file = join(volume, 'secrets', `${hash}.json`);
  writeDurably(file, envelope);
  return file;
}

const list: Command = {
  name: 'app secret list',
  summary: "an app's secrets in a host volume: names, envelopes, and which manifests there name them",
  positionals: ['NAME'],
  options: {
    volume: { value: 'DIR', help: 'the host volume of a VM', required: true },
    ...narrationOptions,
  },
  async run(args) {
    const [app] = args.positionals as [string];
    typed(() => appId(app));
    const secrets = secretsIn(app, args.text('volume'));
    narration(args)(...(secrets.length === 0 ? [`no secrets of ${app} here`] : secretLines(secrets)));
    answer(args, 'app secret list', { app, secrets });
  },
};

export const secretCommands: readonly Command[] = [set, list];
