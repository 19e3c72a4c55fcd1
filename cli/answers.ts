/**
 * What `--json` prints of each command: one object, with these names at its top, as docs/cli.md has them; or why a command prints none.
 * Names are added and never change their meaning, since programs read them.
 */
import { printJson } from '../lib/daemon/terminal.ts';
import type { Arguments } from './command.ts';

/** Of the owner's commands, which sign and send. */
const DEED = ['chainId', 'from', 'to', 'value', 'data', 'decoded', 'effect', 'sent'] as const;

export const answers = {
  'network deploy': [...DEED, 'contract'],
  'network config': ['config', 'file'],
  'network bootstrap': DEED,
  'network allow': DEED,
  'network revoke': DEED,
  'network tcb': DEED,
  'network owner transfer': DEED,
  'network owner accept': DEED,
  'network delay': DEED,
  'app rollout': DEED,
  'app rollback': DEED,
  'app withdraw': DEED,
  'network status': [
    ...['chainId', 'contract', 'isOurCode', 'owner', 'nextOwner', 'networkKey', 'epoch', 'onboarded'],
    ...['delay', 'nextDelay', 'requestWindow', 'platformsOpen', 'apps', 'block'],
  ],
  'network list': ['contract', 'block', 'listed', 'apps', 'platformsOpenFrom', 'nextDelay'],
  'network watch': ['kind', 'block', 'blockHash', 'time', 'transaction', 'index', 'event', 'fields'],
  'network publish': ['out', 'verdict', 'block', 'hash', 'findings'],
  'app pack': ['app', 'manifest', 'archives', 'files', 'answersHttp'],
  'app secret set': [
    ...(['app', 'secret', 'chainId', 'contract', 'networkKey', 'sealedTo', 'envelope', 'files'] as const),
  ],
  'app secret list': ['app', 'secrets'],
  'app diff': ['app', 'before', 'after', 'changes'],
  'app list': ['contract', 'block', 'apps'],
  'app status': ['chainId', 'contract', 'block', 'chain', 'node', 'relay'],
  'app ps': ['containers', 'more'],
  'app logs': ['app', 'code', 'message', 'logs'],
  'node status': [
    ...['chainId', 'contract', 'block', 'networkKey', 'epoch', 'onboarded', 'node', 'relay', 'gas', 'signer'],
  ],
  'kv backup': ['file', 'data', 'revision'],
  'kv restore': ['data', 'revision', 'log', 'continues'],
  'kv receipt get': ['receipt', 'file'],
  'kv receipt verify': [
    ...(['revision', 'namespace', 'basis', 'size', 'root', 'time', 'eventsInRevision', 'events'] as const),
    'currentAt',
  ],
  'kv audit': ['origin', 'revisions', 'root', 'time', 'readable', 'continues', 'network', 'notChecked'],
  'signer init': ['config', 'chain', 'publicKey'],
  'signer pubkey': ['chain', 'publicKey'],
  'signer import': ['chain', 'publicKey'],
  'signer wrap': ['chain', 'file', 'state'],
  'signer backup': ['chain', 'file', 'state'],
  'signer recover': ['chain', 'publicKey', 'state'],
  'signer state show': ['chain', 'state'],
  'signer state import': ['chain', 'state'],
  'records get': ['network', 'sets', 'isCut'],
  'records set': ['id', 'owner', 'network', 'url', 'pulse'],
  'records pulse': ['id', 'owner', 'pulse', 'isNew'],
  'records node connect': ['peer'],
  'records node bootstrap': ['network', 'name', 'peer'],
  'records node status': [
    ...['url', 'version', 'network', 'name', 'contact', 'comment', 'records', 'isPrivate', 'isSynchronised'],
    ...['lacking', 'waiting', 'stopped', 'wire', 'peers', 'connections', 'dialled'],
  ],
  'records owner list': ['owners', 'default'],
  'records owner new': ['name', 'owner'],
  'records owner newfrompass': ['name', 'owner'],
  'records owner default': ['name', 'owner'],
  'records owner delete': ['name', 'owner'],
  'records owner rename': ['name', 'owner'],
  'records owner import': ['name', 'owner'],
  'records owner showcsr': ['owner', 'subject'],
  'records owner authorize': ['owner', 'id', 'serial', 'until'],
  'records owner revoke': ['id', 'serial'],
  'records owner status': ['owner', 'isFounder', 'isAuthority', 'certificates'],
  'records url list': ['urls'],
  'records url add': ['urls'],
  'records url delete': ['urls'],
  'records url default': ['urls'],
  'records oracle list': ['oracles'],
  'records oracle add': ['oracles'],
  'records oracle delete': ['oracles'],
  'records genesis make': ['network', 'owner', 'rules', 'file', 'secret'],
  'records genesis show': ['network', 'owner', 'rules', 'records'],
  'records genesis amend': ['id', 'network'],
  'records prune': ['discarded', 'bytes', 'before', 'after', 'wanted'],
  'records rebuild': ['records', 'dropped', 'unreadable', 'damaged'],
  'vm check': ['flavour', 'runs', 'findings'],
  'image fetch': ['mirror', 'packages', 'bytes', 'releases'],
  'image lock': ['packages', 'bytes', 'releases', 'updated', 'removed', 'added'],
  'image node': ['file', 'version', 'sha256', 'signers'],
  'image reproduce': ['flavour', 'identical', 'measurement', 'files', 'builds', 'different'],
  'image tables': ['file', 'tables', 'smbios'],
  'image diff': [
    'identical',
    'facts',
    'commandLine',
    'parts',
    'packages',
    'root',
    'initramfs',
    'unexplained',
  ],
  'image verify': [
    ...['release', 'flavour', 'shape', 'measurement', 'isCompared', 'packages', 'files', 'publicKey'],
  ],
} as const satisfies Readonly<Record<string, readonly string[]>>;

/** Objects whose names depend on what was asked, and which have a page of their own. */
export const described: Readonly<Record<string, string>> = {
  'quote verify': 'docs/attestation.md',
  'quote show': 'docs/cli.md',
  audit: 'auditing/README.md',
  'site verify': 'docs/site.md',
  'site audit': 'docs/site.md',
  'site cert': 'docs/site-certificates.md',
  'site dns': 'docs/site-certificates.md',
  'signer status': 'docs/signer.md',
  'image measure': 'docs/images.md',
};

/** Why a command has no `--json`. */
export const withoutJson: Readonly<Record<string, string>> = {
  'network abi': 'prints JSON: the ABI',
  'network source': "prints JSON: solc's standard input",
  'quote collateral': 'prints JSON: the collateral',
  create: 'makes a folder, whose name it was given',
  dev: 'runs until it is ended',
  'agent dev': 'runs until it is ended',
  'node join': 'runs until it is ended; how the node stands is for `node status --json`',
  'kv start': 'runs until it is ended',
  'signer start':
    'runs until it is ended, and logs lines of JSON; how it stands is for `signer status --json`',
  'records node start':
    'runs until it is ended, and logs lines of JSON; how it stands is for `records node status --json`',
  'records owner export': 'prints the key: PEM',
  'records owner makecsr': 'prints JSON: the request',
  'relay run': 'runs until it is ended, and logs lines of JSON',
  'vm run': 'runs until it is ended, and logs lines of JSON',
};

type Answer<Name extends keyof typeof answers> = Readonly<Record<(typeof answers)[Name][number], unknown>>;

/** Prints a command's object where `--json` asks for it. */
export function answer<Name extends keyof typeof answers>(
  args: Arguments,
  _of: Name,
  object: Answer<Name>,
): void {
  if (args.flag('json')) printJson(object);
}
