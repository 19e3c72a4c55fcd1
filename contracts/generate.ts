/**
 * Writes TypeScript from the compiled contract: one typed function for each thing one can do with it, so that a caller
 * with a wrong argument does not compile. Pure: takes what solc said, returns source text.
 */
import { Interface } from 'ethers';
import { DstackError } from '../lib/protocol/errors.ts';
import type { AbiEntry, AbiParameter, CompiledNetwork } from './compile.ts';

const BANNER = '// GENERATED from contracts/Network.sol by `npm run bindings`: do not edit.\n';
/** Uints up to this size fit a JavaScript number and are given as one. */
const NUMBER_BITS = 48;

/** The source of lib/protocol/network-contract.ts, unformatted: ABI, types, encoders, decoders. No bytecode. */
export function generateProtocol(compiled: CompiledNetwork): string {
  const functions = named(compiled.abi, 'function').filter((entry) => entry.name !== 'renounceOwnership');
  const events = named(compiled.abi, 'event');
  const errors = named(compiled.abi, 'error');
  return [
    BANNER,
    HEAD,
    ...Object.entries(compiled.enums).map(enumType),
    ...structs(functions).map(structType),
    ...functions.flatMap((entry) => functionCode(entry, compiled)),
    taggedUnion('NetworkEvent', 'An event of the contract.', events, compiled.notices),
    topicTable(events, compiled.abi),
    eventTable(events),
    PARSE_EVENT,
    taggedUnion('NetworkError', 'A refusal of the contract.', errors, compiled.notices),
    errorTable(errors, compiled.abi),
    PARSE_ERROR,
    helpTable(errors, compiled.notices),
    DESCRIBE,
  ].join('\n\n');
}

/** The source of contracts/bindings.ts: what only deploying and auditing need. */
export function generateBindings(compiled: CompiledNetwork): string {
  const constants = {
    networkCompiler: compiled.compiler,
    networkBytecode: compiled.bytecode,
    networkRuntimeBytecode: compiled.runtimeBytecode,
    networkImmutables: compiled.immutables,
    networkStorage: compiled.storage,
    networkJsonAbi: compiled.abi,
  };
  const deploy = compiled.abi.find((entry) => entry.type === 'constructor');
  if (!deploy) throw new DstackError('ABI_UNSUPPORTED', 'the contract has no constructor in its ABI');
  const docs: Record<keyof typeof constants, string> = {
    networkCompiler: 'The solc that made these bytes; its settings are in contracts/compile.ts.',
    networkBytecode: 'Creation code, without the constructor arguments.',
    networkRuntimeBytecode: 'Runtime code, zero where `networkImmutables` says the constructor fills in.',
    networkImmutables: 'Ranges, in bytes, of the runtime code that differ between deployments.',
    networkStorage: 'Where each state variable lives: for storage proofs.',
    networkJsonAbi: "The ABI as Solidity's JSON, for tools that want it so.",
  };
  return [
    BANNER,
    `import { AbiCoder } from 'ethers';`,
    ...Object.entries(constants).map(
      ([name, value]) =>
        `/** ${docs[name as keyof typeof constants]} */\nexport const ${name} = ${JSON.stringify(value)} as const;`,
    ),
    interfaceOf('DeployArgs', deploy.inputs, 'What the constructor takes.', argumentOf),
    `/** The data of the transaction that deploys a network. */
export function encodeDeploy(args: DeployArgs): string {
  const types = ${JSON.stringify(deploy.inputs.map((input) => input.type))};
  const encoded = AbiCoder.defaultAbiCoder().encode(types, [${deploy.inputs.map((input) => `args.${input.name}`).join(', ')}]);
  return networkBytecode + encoded.slice(2);
}`,
    '',
  ].join('\n\n');
}

const HEAD = `/**
 * The network's contract as TypeScript: \`encodeX(args)\` makes the calldata of a call or transaction, \`decodeX(data)\` reads
 * what a view returned, \`parseNetworkEvent\` reads a log and \`parseNetworkError\` what a refused call reverted with.
 *
 * Addresses and bytes are \`0x\` strings (hex.ts), addresses checksummed, and bytes are taken without \`0x\` too; uints of up to ${NUMBER_BITS} bits are numbers, larger ones
 * bigints. What a decoder is given comes from a node that nobody trusts: anything else than the expected bytes is a
 * \`CONTRACT_DATA_INVALID\`. Whether a well-formed answer is true is for the reader of the chain to judge.
 */
import { address, bigUint, bool, bytes, type Codec, type Decoded, decodeStrictly, enumOf, fixedBytes, listOf, smallUint, struct, text } from './abi.ts';
import type { Address, Hex } from './hex.ts';`;

const PARSE_EVENT = `/**
 * Reads a log that the contract emitted; the caller has checked its address.
 *
 * @returns undefined for an event that is not the contract's
 * @throws DstackError \`CONTRACT_DATA_INVALID\` for one that is, with data that is not
 */
export function parseNetworkEvent(log: { readonly topics: readonly string[]; readonly data: string }): NetworkEvent | undefined {
  const [topic, ...indexed] = log.topics;
  const name = eventNames.get(topic?.toLowerCase() ?? '');
  if (name === undefined) return undefined;
  const event = networkEvents[name];
  const inTopics = decodeStrictly(event.indexed, \`0x\${indexed.map(wordOf).join('')}\`, \`topics of \${name}\`);
  return { name, ...inTopics, ...decodeStrictly(event.data, log.data, name) } as NetworkEvent;
}

/** A topic is one word; of another length it fits no event. */
function wordOf(topic: string): string {
  return topic.length === 66 ? topic.slice(2) : '';
}`;

const PARSE_ERROR = `/**
 * Reads what a call that the contract refused reverted with.
 *
 * @param data the revert data, \`0x\` hex
 * @returns undefined for what is not one of the contract's errors
 * @throws DstackError \`CONTRACT_DATA_INVALID\` for one that is, with data that is not
 */
export function parseNetworkError(data: string): NetworkError | undefined {
  const name = errorNames.get(data.slice(0, 10).toLowerCase());
  if (name === undefined) return undefined;
  return { name, ...decodeStrictly(networkErrors[name].values, \`0x\${data.slice(10)}\`, name) } as NetworkError;
}`;

const DESCRIBE = `/** One line for logs and people: the error, its values, and what to do about it. */
export function describeNetworkError(error: NetworkError): string {
  const { name, ...values } = error;
  const list = Object.entries(values).map(([key, value]) => \`\${key} \${value}\`);
  const help = networkErrorHelp[name];
  return \`\${name}(\${list.join(', ')})\${help ? \`: \${help}\` : ''}\`;
}`;

type Named = AbiEntry & { readonly name: string };

function named(abi: readonly AbiEntry[], type: AbiEntry['type']): Named[] {
  return abi
    .filter((entry): entry is Named => entry.type === type && entry.name !== undefined)
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function capital(name: string): string {
  return name.slice(0, 1).toUpperCase() + name.slice(1);
}

function doc(text: string): string {
  return `/** ${text} */\n`;
}

/** `struct INetwork.AppView[]` and `enum INetwork.RequestState` by their short names. */
function shortName(parameter: AbiParameter): string {
  return /(\w+)(\[\])?$/.exec(parameter.internalType ?? '')?.[1] ?? '';
}

function isEnum(parameter: AbiParameter): boolean {
  return parameter.internalType?.startsWith('enum ') ?? false;
}

function element(parameter: AbiParameter): AbiParameter {
  const one = { ...parameter, type: parameter.type.slice(0, -2) };
  return parameter.internalType ? { ...one, internalType: parameter.internalType.replace(/\[\]$/, '') } : one;
}

/** The codec (lib/protocol/abi.ts) of a Solidity type. */
function codecOf(parameter: AbiParameter): string {
  const { type } = parameter;
  if (type.endsWith('[]')) return `listOf(${codecOf(element(parameter))})`;
  if (type === 'tuple' || isEnum(parameter)) return codecName(shortName(parameter));
  if (type === 'bool' || type === 'address' || type === 'bytes') return type;
  if (type === 'string') return 'text';
  const [, kind, size] = /^(uint|bytes)(\d+)$/.exec(type) ?? [];
  if (kind === 'bytes') return `fixedBytes(${size})`;
  if (kind === 'uint') return Number(size) <= NUMBER_BITS ? `smallUint(${size})` : `bigUint(${size})`;
  throw new DstackError('ABI_UNSUPPORTED', `the generator has no codec for ${type}`);
}

/** The TypeScript type of a Solidity one. */
function typeOf(parameter: AbiParameter): string {
  const { type } = parameter;
  if (type.endsWith('[]')) return `readonly ${typeOf(element(parameter))}[]`;
  if (type === 'tuple' || isEnum(parameter)) return shortName(parameter);
  if (type === 'bool') return 'boolean';
  if (type === 'string') return 'string';
  if (type === 'address') return 'Address';
  const bits = /^uint(\d+)$/.exec(type)?.[1];
  return bits === undefined ? 'Hex' : Number(bits) <= NUMBER_BITS ? 'number' : 'bigint';
}

function codecName(name: string): string {
  return `${name.slice(0, 1).toLowerCase()}${name.slice(1)}Codec`;
}

function structOf(parameters: readonly AbiParameter[]): string {
  return `struct({ ${parameters.map((parameter) => `${parameter.name}: ${codecOf(parameter)}`).join(', ')} })`;
}

function fields(parameters: readonly AbiParameter[], typed = typeOf): string {
  return parameters.map((parameter) => `readonly ${parameter.name}: ${typed(parameter)};`).join('\n');
}

function interfaceOf(
  name: string,
  parameters: readonly AbiParameter[],
  comment: string,
  typed = typeOf,
): string {
  return `${doc(comment)}export interface ${name} {\n${fields(parameters, typed)}\n}`;
}

/** An argument's type. Its encoder checks hex and addresses itself, so any string may be tried. */
function argumentOf(parameter: AbiParameter): string {
  return typeOf(parameter).replace(/Address|Hex/, 'string');
}

function enumType([name, members]: [string, readonly string[]]): string {
  const values = members.map((member) => `'${member.toLowerCase()}'`).join(', ');
  return `const ${codecName(name)} = enumOf([${values}]);
/** One of the contract's enum; INetwork.sol says what each means. */
export type ${name} = Decoded<typeof ${codecName(name)}>;`;
}

function structs(functions: readonly Named[]): AbiParameter[] {
  const found = new Map<string, AbiParameter>();
  for (const parameter of functions.flatMap((entry) => [...entry.inputs, ...(entry.outputs ?? [])])) {
    if (parameter.components) found.set(shortName(parameter), parameter);
  }
  return [...found.values()];
}

function structType(parameter: AbiParameter): string {
  const name = shortName(parameter);
  const components = parameter.components ?? [];
  return `${interfaceOf(name, components, `See INetwork.sol for the fields' meaning.`)}
const ${codecName(name)}: Codec<${name}> = ${structOf(components)};`;
}

function functionCode(entry: Named, { abi, notices }: CompiledNetwork): string[] {
  const name = capital(entry.name);
  const notice = notices[entry.name] ?? `\`${entry.name}\` of OpenZeppelin's Ownable2Step or EIP712.`;
  const selector = Interface.from(abi).getFunction(entry.name)?.selector;
  const code: string[] = [];
  if (entry.inputs.length > 0) {
    // OpenZeppelin names no input that would collide; a view's unnamed input would need a name here.
    code.push(interfaceOf(`${name}Args`, entry.inputs, `The arguments of \`${entry.name}\`.`, argumentOf));
    code.push(`const ${codecName(entry.name)}: Codec<${name}Args> = ${structOf(entry.inputs)};
${doc(notice)}export function encode${name}(args: ${name}Args): string {
  return \`${selector}\${${codecName(entry.name)}.encode(args)}\`;
}`);
  } else {
    code.push(`${doc(notice)}export function encode${name}(): string {\n  return '${selector}';\n}`);
  }
  if (entry.stateMutability === 'view' && entry.outputs) code.push(resultCode(entry.name, entry.outputs));
  return code;
}

function resultCode(name: string, outputs: readonly AbiParameter[]): string {
  const comment = doc(`What \`${name}\` returned.`);
  const signature = `export function decode${capital(name)}(data: string)`;
  const codec = codecName(`${name}Result`);
  const [only] = outputs;
  if (outputs.length === 1 && only) {
    return `const ${codec} = struct({ value: ${codecOf(only)} });
${comment}${signature}: ${typeOf(only)} {\n  return decodeStrictly(${codec}, data, 'answer to ${name}').value;\n}`;
  }
  const result = `${capital(name)}Result`;
  return `${interfaceOf(result, outputs, `What \`${name}\` returns.`)}
const ${codec}: Codec<${result}> = ${structOf(outputs)};
${comment}${signature}: ${result} {\n  return decodeStrictly(${codec}, data, 'answer to ${name}');\n}`;
}

function taggedUnion(
  name: string,
  comment: string,
  entries: readonly Named[],
  notices: CompiledNetwork['notices'],
): string {
  const members = entries.map((entry) => {
    const notice = notices[entry.name];
    return `${notice ? `/** ${notice} */\n` : ''}| { readonly name: '${entry.name}'; ${fields(entry.inputs)} }`;
  });
  return `${doc(comment)}export type ${name} =\n${members.join('\n')};`;
}

function topicTable(events: readonly Named[], abi: readonly AbiEntry[]): string {
  const contract = Interface.from(abi);
  const rows = events.map((entry) => `${entry.name}: '${contract.getEvent(entry.name)?.topicHash}'`);
  return `${doc("Each event's first topic, for filters.")}export const networkTopics = { ${rows.join(', ')} } as const;`;
}

/** What is in an event's topics, after the first, and what in its data. */
function eventTable(events: readonly Named[]): string {
  const rows = events.map(({ name, inputs }) => {
    const part = (indexed: boolean) => structOf(inputs.filter((input) => Boolean(input.indexed) === indexed));
    return `${name}: { indexed: ${part(true)}, data: ${part(false)} }`;
  });
  return `const networkEvents = { ${rows.join(', ')} };
const eventNames = new Map(
  Object.entries(networkTopics).map(([name, topic]) => [topic as string, name as keyof typeof networkTopics]),
);`;
}

function errorTable(errors: readonly Named[], abi: readonly AbiEntry[]): string {
  const contract = Interface.from(abi);
  const rows = errors.map(
    ({ name, inputs }) =>
      `${name}: { selector: '${contract.getError(name)?.selector}', values: ${structOf(inputs)} }`,
  );
  return `const networkErrors = { ${rows.join(', ')} };
const errorNames = new Map(
  Object.entries(networkErrors).map(([name, { selector }]) => [selector, name as keyof typeof networkErrors]),
);`;
}

function helpTable(errors: readonly Named[], notices: CompiledNetwork['notices']): string {
  const rows = errors.flatMap((entry) => {
    const notice = notices[entry.name];
    return notice ? [`${entry.name}: ${JSON.stringify(notice)}`] : [];
  });
  return `const networkErrorHelp: Readonly<Partial<Record<NetworkError['name'], string>>> = { ${rows.join(', ')} };`;
}
