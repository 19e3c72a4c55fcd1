/** A validator's signer: never two signatures of one step, and none that the record in the store does not allow. */
import { type Mutation, one } from '../mutation.ts';

const LAST = 'guest/signer/last-signed.ts';
const CHAIN = 'guest/signer/chain-signer.ts';
const MODEL = ['guest/signer/last-signed.test.ts', 'signers of one key under every fault'] as const;
const RULE = ['lib/cometbft/sign-state.ts', 'lib/cometbft/sign-state.test.ts'] as const;
const SECRET = ['lib/cometbft/secret-connection.ts', 'lib/cometbft/secret-connection.test.ts'] as const;

export const signerRules: readonly Mutation[] = [
  one(
    'signer',
    'that nothing is signed on a record of a backup',
    [RULE[0], 'if (!isRestored) return state;', 'return state;'],
    ['guest/signer/last-signed.test.ts', 'on a record of a backup nobody signs'],
  ),
  one(
    'signer',
    'that a restored store locks what signers kept there',
    ['guest/kv/dev/main.ts', 'name.earlier.length === 0 ? 0 :', 'name.earlier.length >= 0 ? 0 :'],
    ['test/kv/backup.test.ts', 'what signers kept there is locked'],
  ),
  one(
    'signer',
    'that a lock on a record is not undone by who says that nothing was signed',
    [
      'guest/signer/operator.ts',
      "to === 'fresh' ? cleanRecord(stored) : readRecord(stored.value)",
      'readRecord(stored.value)',
    ],
    ['guest/signer/operator.test.ts', 'nothing else does'],
  ),
  one(
    'signer',
    'signing after the record was written, and not before',
    [LAST, 'if (swapped === undefined) return decision;', 'return decision;'],
    MODEL,
  ),
  one(
    'signer',
    'reading the record again after an answer that was lost',
    [
      LAST,
      '        if (isFinal(error)) throw error;',
      '        if (isFinal(error)) throw error;\n        if (known !== undefined) return decide(known.state, asked);',
    ],
    MODEL,
  ),
  one(
    'signer',
    'the refusal of another block in a step',
    [
      RULE[0],
      '  if (timestamp !== undefined) return { sign: last.signBytes, timestamp };\n',
      '  if (timestamp === undefined) return { sign: asked.signBytes };\n  return { sign: last.signBytes, timestamp };\n',
    ],
    [RULE[1], 'another block in the same step'],
  ),
  one(
    'signer',
    'the refusal of an earlier step',
    [RULE[0], 'if (order < 0) {', 'if (order < -2) {'],
    [RULE[1], 'what comes before is refused'],
  ),
  one(
    'signer',
    'that a record which cannot be read is not taken for none',
    [RULE[0], 'version: Type.Literal(1),', 'version: Type.Integer(),'],
    [RULE[1], 'one of another form'],
  ),
  one(
    'signer',
    'the refusal of points of low order',
    [
      SECRET[0],
      "    throw broken('the ephemeral key is a point of low order', cause);",
      '    return new Uint8Array(32);',
    ],
    [SECRET[1], 'a point of low order is refused'],
  ),
  one(
    'signer',
    'the proof of the key that a node shows',
    [SECRET[0], 'if (!verifyEd25519(key, challenge, signature))', 'if (signature.length === 0)'],
    [SECRET[1], 'a key that the other side has not'],
  ),
  one(
    'signer',
    'that a field comes once',
    ['lib/cometbft/wire.ts', 'if (this.#fields.has(field))', 'if (field === 0)'],
    ['lib/cometbft/messages.test.ts', 'two fields of one number'],
  ),
  one(
    'signer',
    "the seal's chain",
    [
      'guest/signer/keys.ts',
      "[utf8('import'), utf8(chainId)]",
      "[utf8('import'), utf8(chainId.slice(0, 5))]",
    ],
    ['guest/signer/keys.test.ts', 'a sealed key is opened by this network'],
  ),
  one(
    'signer',
    'that a node signs only with the disk that the manifest names',
    ['guest/signer/duty.ts', '    if (this.#disk === wanted) return;\n', "    if (wanted !== '') return;\n"],
    ['guest/signer/main.test.ts', 'a disk that the manifest does not name'],
  ),
  one(
    'signer',
    'that under the name of a secret there may be another one in another manifest',
    ['guest/signer/duty.ts', " &&\n    one.signer.chains.every(({ key }) => key === 'derived')", ''],
    ['guest/signer/main.test.ts', 'a manifest that changes nothing for the signer'],
  ),
  one(
    'signer',
    'the height of the manifest, for a key that has a record already',
    [
      'guest/signer/vm-keys.ts',
      'if (stored !== undefined && compare(floor, decodeState(stored.value)) <= 0) return;',
      'if (stored !== undefined) return;',
    ],
    ['guest/signer/vm-keys.test.ts', "a key's record begins after the manifest's height"],
  ),
  one(
    'signer',
    "that a chain's key stays that of the epoch in which it was first used",
    [
      'guest/signer/vm-keys.ts',
      'if (stored !== undefined) return siblings.keys(chain, epochIn(stored.value));',
      'if (stored !== undefined) return siblings.keys(chain);',
    ],
    ['guest/signer/vm-keys.test.ts', "a chain's key stays that of the epoch"],
  ),
  one(
    'signer',
    'that what was told counts for a moment only',
    [
      'guest/signer/gate.ts',
      'if (this.#now() - this.#heardAt <= ANSWER_COUNTS) return this.#stopped;',
      'if (this.#heardAt >= 0) return this.#stopped;',
    ],
    ['guest/signer/gate.test.ts', 'nothing is signed before it was told'],
  ),
  one(
    'signer',
    'that what was told is heeded',
    ['guest/signer/duty.ts', 'this.#gate.tell(stopped);', 'this.#gate.tell(undefined);'],
    ['test/signer/stopped.test.ts', 'an hour without a block'],
  ),
  one(
    'signer',
    'that nothing is recorded while nothing may be signed',
    [
      CHAIN,
      '      this.#around.gate();\n      return this.lastSigned.permit(asked, signal);',
      '      return this.lastSigned.permit(asked, signal);',
    ],
    ['guest/signer/chain-signer.test.ts', 'while nothing may be signed, a request for vote'],
  ),
  one(
    'signer',
    'that it is asked again after the answer of the store',
    [
      CHAIN,
      "    // The chain's clock, or what else it hangs on, may have gone on meanwhile.\n    this.#around.gate();\n",
      '',
    ],
    ['guest/signer/chain-signer.test.ts', 'what stops it while the store answers'],
  ),
  one(
    'signer',
    'that what has no record is not signed either while nothing may be',
    [
      CHAIN,
      '    this.#around.gate();\n    return this.options.key.sign(rawSignBytes(',
      '    return this.options.key.sign(rawSignBytes(',
    ],
    ['guest/signer/chain-signer.test.ts', 'while nothing may be signed, a request for rawBytes'],
  ),
  one(
    'signer',
    'that `SignBytes` is answered only while something may be signed',
    [
      CHAIN,
      '    this.#around.gate();\n    return this.options.key.sign(value);',
      '    return this.options.key.sign(value);',
    ],
    ['guest/signer/chain-signer.test.ts', 'while nothing may be signed, a request for bytes'],
  ),
  one(
    'signer',
    'that a daemon which was started again, and has not read the contract, takes nothing back',
    ['guest/signer/duty.ts', 'stopped?.code !== CONTRACT_UNREAD && order', 'order'],
    ['test/signer/stopped.test.ts', 'while the daemon that reads the contract is away'],
  ),
  one(
    'signer',
    "the record's value beside its revision, which an old copy of the store gives out once more",
    ['guest/signer/records.ts', '  return [revision, value];', '  return [revision];'],
    ['guest/signer/records.test.ts', 'an old copy gives out a revision once more'],
  ),
  one(
    'signer',
    'signing nothing while the chain is stale',
    ['guest/kubernethes/signer-orders.ts', '      this.#options.chainNow();\n', ''],
    ['guest/kubernethes/signer-orders.test.ts', 'a stale chain stops it'],
  ),
  one(
    'signer',
    'signing nothing in a network of one node',
    [
      'guest/kubernethes/signer-orders.ts',
      'if (minimumNodes > 1 && !this.#onboarded) {',
      'if (minimumNodes > 2) {',
    ],
    ['guest/kubernethes/signer-orders.test.ts', 'a network of one node signs nothing'],
  ),
  one(
    'signer',
    'that no other manifest than the one in force is followed',
    [
      'guest/kubernethes/signer-orders.ts',
      'for (const hash of this.#known.keys()) if (!inForce.has(hash)) this.#known.delete(hash);',
      'for (const hash of this.#known.keys()) inForce.add(hash);\n    apps = new Map([...apps, ...[...this.#known].map(([hash, { app }]) => [app, hash] as const)]);',
    ],
    ['guest/kubernethes/signer-orders.test.ts', 'the manifest in force is the order'],
  ),
  one(
    'signer',
    'that nothing is signed while the manifest of an app before it is not here',
    ['guest/kubernethes/signer-orders.ts', 'if (!this.#known.has(hash)) return { app, before };', ''],
    ['guest/kubernethes/signer-orders.test.ts', 'two nodes that have the manifests of different apps'],
  ),
  one(
    'signer',
    'that nothing new is begun while such a manifest is awaited',
    [
      'guest/kubernethes/signer-orders.ts',
      'else if (this.#named?.order.manifest !== named?.order.manifest) this.#named = undefined;',
      'else this.#named = named;',
    ],
    ['guest/kubernethes/signer-orders.test.ts', 'while the manifest of an app before it is awaited'],
  ),
  one(
    'signer',
    'that secrets are given for the manifest in force, and for keys of its chains',
    [
      'guest/kubernethes/signer-orders.ts',
      'secretsOf(manifest).filter(({ name }) => used.includes(name)),',
      'secretsOf(manifest),',
    ],
    ['guest/kubernethes/signer-orders.test.ts', 'it gets the secrets that its chains have as keys'],
  ),
  one(
    'signer',
    'the filter on what the signer dials within the node',
    ['guest/image/rootfs/etc/dstack/firewall.nft', '    oifname != "eth0" meta skuid 808 drop\n', ''],
    ['test/hostile-lease.test.ts', 'the signer dials by the card'],
  ),
  one(
    'signer',
    'that nothing of a key that cannot be read is said',
    [
      'guest/signer/vm-keys.ts',
      '    // Without the cause, which may quote the key: the host reads the console.\n',
      '    if (error instanceof Error) throw error;\n',
    ],
    ['guest/signer/vm-keys.test.ts', 'a secret that is no key is refused'],
  ),
  one(
    'signer',
    'that a store which went back in time is believed no more',
    [LAST, 'if (seen !== undefined) requireForward(seen, state);', ''],
    ['guest/signer/last-signed.test.ts', 'put back to an old copy under a running signer'],
  ),
  one(
    'signer',
    "that other programs' files, which count steps otherwise, stand for the whole round",
    ['lib/cometbft/key-files.ts', '  if (isOfAnother) {', '  if (isOfAnother && file.step > 9) {'],
    ['lib/cometbft/keys.test.ts', 'tmkms'],
  ),
  one(
    'signer',
    'the bound on the fields of a message',
    [
      'lib/cometbft/wire.ts',
      'if (this.#fields.size === MAX_FIELDS) throw',
      'if (this.#fields.size < 0) throw',
    ],
    ['lib/cometbft/messages.test.ts', 'a mebibyte of tiny fields'],
  ),
  one(
    'signer',
    "that a member's text which is no text is passed over",
    [
      'lib/etcd/client.ts',
      '    return decodeURIComponent(text);\n  } catch {',
      '    return decodeURIComponent(text);\n  } catch (error) {\n    if (text.length > 0) throw error;',
    ],
    ['lib/etcd/client.test.ts', 'not escaped as it should be'],
  ),
  one(
    'signer',
    'that a configuration which is nested without end is refused',
    ['guest/signer/config.ts', 'if (depth > MAX_DEPTH) throw', 'if (depth < 0) throw'],
    ['guest/signer/config.test.ts', 'a mistake is refused with its reason'],
  ),
];
