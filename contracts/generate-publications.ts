/** Writes lib/protocol/publications-contract.ts from the compiled Publications.sol. Pure: takes what solc said, returns source text. */
import { getCreate2Address, Interface, keccak256, ZeroHash } from 'ethers';
import type { CompiledPublications } from './compile.ts';

/** The deployer that most chains have (github.com/Arachnid/deterministic-deployment-proxy): it takes a salt, then creation code. */
const DEPLOYER = '0x4e59b44847b379578588920cA78FbF26c0B4956C';

export function generatePublications({ abi, bytecode, runtimeBytecode }: CompiledPublications): string {
  const contract = new Interface(abi);
  const address = getCreate2Address(DEPLOYER, ZeroHash, keccak256(bytecode));
  const constants: Record<string, [value: string, doc: string]> = {
    publicationsAddress: [address, 'Where it is, on every chain that has the deployer.'],
    publicationsDeployer: [DEPLOYER, 'Who creates it there: a contract without an owner.'],
    publicationsDeployment: [
      `${ZeroHash}${bytecode.slice(2)}`,
      'What the deployer is sent for that, by whoever comes first: a salt of zeros, then the creation code.',
    ],
    publicationsRuntimeBytecode: [runtimeBytecode, 'The code that is then at the address.'],
    publishedTopic: [
      contract.getEvent('Published')!.topicHash,
      'Topic 0 of `Published`; topic 1 is the subject, topic 2 the publisher.',
    ],
    SELECTOR: [contract.getFunction('publish')!.selector, ''],
  };
  const written = Object.entries(constants).map(([name, [value, doc]]) => {
    const type = name.endsWith('Address') || name.endsWith('Deployer') ? ': Address' : '';
    const literal = type === '' ? `'${value}'` : `parseAddress('${value}')`;
    return doc === ''
      ? `const ${name} = '${value}';`
      : `/** ${doc} */\nexport const ${name}${type} = ${literal};`;
  });
  return `// GENERATED from contracts/Publications.sol by \`npm run bindings\`: do not edit.

/** The contract in whose transactions' calldata hosts leave messages: where it is, and its one function. */
import { bytes, type Codec, decodeStrictly, fixedBytes, struct } from './abi.ts';
import { DstackError } from './errors.ts';
import { type Address, type Hex, parseAddress } from './hex.ts';

${written.join('\n\n')}

/** What a publication is: what it is about, and the message's bytes. */
export interface PublishArgs {
  readonly subject: Hex;
  readonly message: Hex;
}
const publishCodec: Codec<PublishArgs> = struct({ subject: fixedBytes(32), message: bytes });

/** The calldata of \`publish\`. */
export function encodePublish(args: PublishArgs): string {
  return \`\${SELECTOR}\${publishCodec.encode(args)}\`;
}

/** @throws DstackError \`CONTRACT_DATA_INVALID\` for calldata of anything else */
export function decodePublish(calldata: string): PublishArgs {
  if (!calldata.toLowerCase().startsWith(SELECTOR))
    throw new DstackError('CONTRACT_DATA_INVALID', 'a transaction that should publish something calls something else');
  return decodeStrictly(publishCodec, \`0x\${calldata.slice(SELECTOR.length)}\`, 'publication');
}
`;
}
