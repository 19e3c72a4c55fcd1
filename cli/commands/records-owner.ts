/** `records owner …`: keys that write, and what an authority says of them. */
import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { readBounded } from '../../lib/daemon/bounded-file.ts';
import { createDurably } from '../../lib/daemon/durable-file.ts';
import { askSecret, confirm, print } from '../../lib/daemon/terminal.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import {
  MAX_REQUEST_BYTES,
  makeRequest,
  parseRequest,
} from '../../lib/protocol/records/certificate-request.ts';
import { ownerSeedOf } from '../../lib/protocol/records/passphrase.ts';
import { encodeCertificate, encodeRevocation } from '../../lib/protocol/records/statements.ts';
import { answer } from '../answers.ts';
import { type Arguments, type Command, narration, narrationOptions, typed, UsageError } from '../command.ts';
import { type Client, reachNode } from '../records/client.ts';
import {
  changeClient,
  clientOf,
  folderOf,
  meantNetwork,
  networkOption,
  parseUrl,
  pathOption,
} from '../records/folder.ts';
import {
  addOwner,
  deleteOwner,
  freshSeed,
  type Owner,
  ownerNamed,
  ownersOf,
  parseOwner,
  pemOf,
  renameOwner,
  requireOwnerName,
  seedIn,
  writerOf,
} from '../records/owners.ts';
import { writeRecord } from '../records/write.ts';

const DAY = 86_400_000;
const MOST_DAYS = 36_500;
const MAX_KEY_BYTES = 4_096;

const options = { ...pathOption, ...narrationOptions } as const;
const atNode = {
  ...options,
  ...networkOption,
  url: { value: 'URL', help: 'nodes to ask, instead of those of the folder', multiple: true },
} as const;
const outOption = { out: { value: 'FILE', help: 'a new file for it, instead of standard output' } } as const;

function reach(args: Arguments): Promise<Client> {
  const folder = folderOf(args);
  return reachNode(folder, args.list('url').map(parseUrl), meantNetwork(args, folder));
}

function tell(args: Arguments, { name, key }: Owner): void {
  narration(args)(`${name}  ${key}`);
}

const list: Command = {
  name: 'records owner list',
  summary: 'the owners of this folder; * marks the default',
  options: { ...pathOption, json: narrationOptions.json },
  async run(args) {
    const folder = folderOf(args);
    const { owner: chosen = null } = clientOf(folder);
    const owners = ownersOf(folder).map(({ name, key }) => ({ name, owner: key }));
    if (!args.flag('json') && owners.length > 0)
      print(...owners.map(({ name, owner }) => `${name === chosen ? '*' : ' '} ${owner}  ${name}`));
    answer(args, 'records owner list', { owners, default: chosen });
  },
};

const make: Command = {
  name: 'records owner new',
  summary: 'makes an owner: a key in a file of yours alone; the first one is the default',
  positionals: ['NAME'],
  options,
  async run(args) {
    const owner = await addOwner(folderOf(args), args.positionals[0]!, freshSeed());
    tell(args, owner);
    answer(args, 'records owner new', { name: owner.name, owner: owner.key });
  },
};

const fromPassphrase: Command = {
  name: 'records owner newfrompass',
  summary: 'makes an owner from a passphrase, the same one everywhere: who guesses it is that owner',
  positionals: ['NAME'],
  options: {
    ...options,
    'passphrase-file': { value: 'FILE', help: 'a file with the passphrase, instead of the terminal' },
  },
  async run(args) {
    const name = requireOwnerName(args.positionals[0]!);
    const file = args.optional('passphrase-file');
    const passphrase =
      file === undefined
        ? await askTwice()
        : readBounded(resolve(file), { maxBytes: MAX_KEY_BYTES, pipes: true })
            .toString('utf8')
            .replace(/\r?\n$/, '');
    const owner = await addOwner(folderOf(args), name, ownerSeedOf(passphrase));
    tell(args, owner);
    answer(args, 'records owner newfrompass', { name: owner.name, owner: owner.key });
  },
};

async function askTwice(): Promise<string> {
  const passphrase = await askSecret('passphrase');
  if (passphrase === undefined)
    throw new UsageError('there is no terminal to ask for a passphrase: --passphrase-file');
  if ((await askSecret('once more')) === passphrase) return passphrase;
  throw new DstackError('RECORD_PASSPHRASE', 'the two are not the same; nothing was made');
}

const setDefault: Command = {
  name: 'records owner default',
  summary: 'the owner that writes unless another is named',
  positionals: ['NAME'],
  options,
  async run(args) {
    const folder = folderOf(args);
    const owner = ownerNamed(folder, args.positionals[0]!);
    await changeClient(folder, (client) => ({ ...client, owner: owner.name }));
    tell(args, owner);
    answer(args, 'records owner default', { name: owner.name, owner: owner.key });
  },
};

const remove: Command = {
  name: 'records owner delete',
  summary: 'deletes the key of an owner here: without a copy nobody writes as that owner again',
  positionals: ['NAME'],
  options: { ...options, yes: { help: 'does not ask' } },
  async run(args) {
    const [name = ''] = args.positionals;
    const folder = folderOf(args);
    const { key } = ownerNamed(folder, name);
    const agreed = args.flag('yes') ? 'yes' : await confirm(`Delete the key of ${name} (${key})?`);
    if (agreed === 'no terminal')
      throw new UsageError('there is no terminal to ask whether it is meant: --yes');
    if (agreed === 'no') throw new DstackError('RECORDS_OWNER', `${name} is kept`);
    await deleteOwner(folder, name);
    narration(args)(`${name} is deleted`);
    answer(args, 'records owner delete', { name, owner: key });
  },
};

const rename: Command = {
  name: 'records owner rename',
  summary: 'gives an owner another name in this folder; no record knows it',
  positionals: ['NAME', 'NEW'],
  options,
  async run(args) {
    const [from = '', to = ''] = args.positionals;
    const owner = await renameOwner(folderOf(args), from, to);
    tell(args, owner);
    answer(args, 'records owner rename', { name: owner.name, owner: owner.key });
  },
};

const exportKey: Command = {
  name: 'records owner export',
  summary: 'the key of an owner, in PEM (PKCS #8): whoever has it is that owner',
  positionals: ['NAME'],
  options: { ...pathOption, ...outOption },
  async run(args) {
    write(args, pemOf(ownerNamed(folderOf(args), args.positionals[0]!).seed));
  },
};

const importKey: Command = {
  name: 'records owner import',
  summary: 'takes an Ed25519 key in PEM (PKCS #8), as export or `openssl genpkey` gives it',
  positionals: ['NAME', 'FILE'],
  options,
  async run(args) {
    const [name = '', file = ''] = args.positionals;
    const pem = readBounded(resolve(file), { maxBytes: MAX_KEY_BYTES, pipes: true }).toString('utf8');
    const owner = await addOwner(folderOf(args), name, seedIn(pem, file));
    tell(args, owner);
    answer(args, 'records owner import', { name: owner.name, owner: owner.key });
  },
};

const makeCsr: Command = {
  name: 'records owner makecsr',
  summary: 'a request for an authority to certify this owner, signed with its key',
  positionals: ['NAME'],
  options: {
    ...pathOption,
    subject: { value: 'WORDS', help: 'who it is, for the person who decides', default: '-' },
    ...outOption,
  },
  async run(args) {
    const subject = args.text('subject');
    if (subject.length > 256) throw new UsageError('--subject has up to 256 characters');
    const { seed } = ownerNamed(folderOf(args), args.positionals[0]!);
    write(args, `${JSON.stringify(makeRequest(seed, subject), null, 2)}\n`);
  },
};

const showCsr: Command = {
  name: 'records owner showcsr',
  summary: 'whom a request is from, and whether that owner signed it',
  positionals: ['FILE'],
  options: { json: narrationOptions.json },
  async run(args) {
    const { owner, subject } = requestIn(args.positionals[0]!);
    if (!args.flag('json')) print(`owner    ${owner}`, `subject  ${subject}`);
    answer(args, 'records owner showcsr', { owner, subject });
  },
};

const authorize: Command = {
  name: 'records owner authorize',
  summary:
    'certifies the owner of a request for so many days, as an authority (CA) of the network; the certificate is a record',
  positionals: ['CA', 'FILE', 'DAYS'],
  options: atNode,
  async run(args) {
    const [ca = '', file = '', days = ''] = args.positionals;
    if (!/^\d{1,5}$/.test(days) || Number(days) < 1 || Number(days) > MOST_DAYS)
      throw new UsageError(`DAYS is 1 to ${MOST_DAYS}, not ${days}`);
    const { owner } = requestIn(file);
    const client = await reach(args);
    const authority = authorityOf(client, writerOf(folderOf(args), ca));
    const serial = randomBytes(8).readBigUInt64BE();
    const now = Date.now();
    // Clocks may be apart.
    const period = { notBefore: now - client.genesis.rules.drift, notAfter: now + Number(days) * DAY };
    const value = encodeCertificate({ subject: fromHex(owner), serial, ...period });
    const id = await writeRecord(client, { type: 'certificate', names: [], value }, authority.seed, silent);
    const until = new Date(period.notAfter).toISOString();
    narration(args)(
      `owner        ${owner}`,
      `certificate  ${id}`,
      `serial       ${serial}`,
      `until        ${until}`,
    );
    answer(args, 'records owner authorize', { owner, id, serial: `${serial}`, until });
  },
};

const revoke: Command = {
  name: 'records owner revoke',
  summary:
    'takes a certificate back, as the authority (CA) that gave it: nothing that was written under it is believed any more',
  positionals: ['CA', 'SERIAL'],
  options: atNode,
  async run(args) {
    const [ca = '', serial = ''] = args.positionals;
    if (!/^\d{1,20}$/.test(serial)) throw new UsageError(`SERIAL is a number, not ${serial}`);
    const value = typed(() => encodeRevocation(BigInt(serial)));
    const client = await reach(args);
    const authority = authorityOf(client, writerOf(folderOf(args), ca));
    const id = await writeRecord(client, { type: 'revocation', names: [], value }, authority.seed, silent);
    narration(args)(`serial ${serial} of ${authority.name} is taken back by record ${id}`);
    answer(args, 'records owner revoke', { id, serial });
  },
};

const status: Command = {
  name: 'records owner status',
  summary: 'what a network says of an owner: founder, authority, certificates that count now',
  positionals: ['[OWNER]'],
  options: { ...atNode },
  async run(args) {
    const folder = folderOf(args);
    const [text] = args.positionals;
    const key = text === undefined ? writerOf(folder, undefined).key : parseOwner(folder, text);
    const client = await reach(args);
    const { isFounder, isAuthority, certificates } = await client.owner(key);
    const time = (at: number): string => new Date(at).toISOString();
    narration(args)(
      `owner        ${key}`,
      ...(isFounder ? ['founder      of this network: needs no permit'] : []),
      ...(isAuthority ? ['authority    of this network: certifies others, and needs no permit'] : []),
      ...certificates.map(
        ({ id, serial, notAfter }) => `certificate  ${id}, serial ${serial}, until ${time(notAfter)}`,
      ),
      ...(isFounder || isAuthority || certificates.length > 0
        ? []
        : [
            client.genesis.rules.certificateRequired
              ? 'no certificate: may not write here'
              : 'no certificate: writes by work',
          ]),
    );
    answer(args, 'records owner status', { owner: key, isFounder, isAuthority, certificates });
  },
};

const silent = { noWork: true, say: () => {} };

/** @throws RECORDS_AUTHORITY */
function authorityOf({ genesis }: Client, owner: Owner): Owner {
  if (genesis.rules.authorities.some((key) => key === owner.key)) return owner;
  throw new DstackError(
    'RECORDS_AUTHORITY',
    `${owner.name} (${owner.key}) is none of the authorities that this network began with`,
  );
}

function requestIn(file: string) {
  return parseRequest(
    readBounded(resolve(file), { maxBytes: MAX_REQUEST_BYTES, pipes: true }).toString('utf8'),
  );
}

/** A key in it is for its owner alone. */
function write(args: Arguments, text: string): void {
  const out = args.optional('out');
  if (out !== undefined) createDurably(resolve(out), text, 0o600);
  else print(...text.trimEnd().split('\n'));
}

export const ownerCommands: readonly Command[] = [
  list,
  make,
  fromPassphrase,
  setDefault,
  remove,
  rename,
  exportKey,
  importKey,
  makeCsr,
  showCsr,
  authorize,
  revoke,
  status,
];
