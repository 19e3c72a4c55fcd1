/**
 * Writes TypeScript from the compiled contract: one typed function for each thing one can do with it, so that a caller
 * with a wrong argument does not compile. Pure: takes what solc said, returns source text.
 */
import { type FormatType, Interface } from 'ethers';
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
    `/** The ABI in ethers' readable form. */
     export const networkAbi = ${JSON.stringify(readable(compiled.abi), null, 2)} as const;`,
    INTERFACE,
    ...Object.entries(compiled.enums).map(enumType),
    ...structs(functions).map(structType),
    ...functions.flatMap((entry) => functionCode(entry, compiled.notices)),
    taggedUnion('NetworkEvent', 'An event of the contract.', events, compiled.notices),
    topicTable(events, compiled.abi),
    parser('parseNetworkEvent', 'NetworkEvent', events, EVENT_PARSER),
    taggedUnion('NetworkError', 'A refusal of the contract.', errors, compiled.notices),
    parser('parseNetworkError', 'NetworkError', errors, ERROR_PARSER),
    helpTable(errors, compiled.notices),
    DESCRIBE,
    HELPERS,
  ].join('\n\n');
}

/** The source of contracts/bindings.ts: what only who deploys or audits needs. */
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
    interfaceOf('DeployArgs', deploy.inputs, 'What the constructor takes.'),
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
 * Addresses and bytes are \`0x\` strings, addresses checksummed; uints of up to ${NUMBER_BITS} bits are numbers, larger ones
 * bigints. What a decoder is given comes from a node that nobody trusts: anything else than the expected bytes is a
 * \`CONTRACT_DATA_INVALID\`. Whether a well-formed answer is true is for the reader of the chain to judge.
 */
import { Interface } from 'ethers';
import { DstackError } from './errors.ts';`;

const INTERFACE = `/** ethers' view of the contract, for what is not covered below. */
export const networkInterface: Interface = new Interface(networkAbi);`;

const EVENT_PARSER = {
  parameter: 'log: { readonly topics: readonly string[]; readonly data: string }',
  doc: `Reads a log that the contract emitted; the caller has checked its address.
 *
 * @returns undefined for an event that is not the contract's
 * @throws DstackError \`CONTRACT_DATA_INVALID\` for one that is, with data that is not`,
  read: (fallback: string) =>
    `const topic = log.topics[0];
  const fragment = topic === undefined ? null : networkInterface.getEvent(topic);
  if (!fragment) ${fallback}
  const args = guarded(fragment.name, () => {
    const values = networkInterface.decodeEventLog(fragment, log.data, log.topics);
    const again = networkInterface.encodeEventLog(fragment, [...values]);
    return same([log.data, ...log.topics], [again.data, ...again.topics]) ? values : undefined;
  });`,
};

const ERROR_PARSER = {
  parameter: 'data: string',
  doc: `Reads what a call that the contract refused reverted with.
 *
 * @param data the revert data, \`0x\` hex
 * @returns undefined for what is not one of the contract's errors
 * @throws DstackError \`CONTRACT_DATA_INVALID\` for one that is, with data that is not`,
  read: (fallback: string) =>
    `const fragment = /^0x[0-9a-f]{8}/i.test(data) ? networkInterface.getError(data.slice(0, 10)) : null;
  // ethers knows Solidity's own two besides the contract's.
  if (!fragment || fragment.name === 'Error' || fragment.name === 'Panic') ${fallback}
  const args = guarded(fragment.name, () => {
    const values = networkInterface.decodeErrorResult(fragment, data);
    return same([data], [networkInterface.encodeErrorResult(fragment, [...values])]) ? values : undefined;
  });`,
};

const DESCRIBE = `/** One line for logs and people: the error, its values, and what to do about it. */
export function describeNetworkError(error: NetworkError): string {
  const { name, ...values } = error;
  const list = Object.entries(values).map(([key, value]) => \`\${key} \${value}\`);
  const help = networkErrorHelp[name];
  return \`\${name}(\${list.join(', ')})\${help ? \`: \${help}\` : ''}\`;
}`;

const HELPERS = `function invalid(what: string, cause?: unknown): DstackError {
  return new DstackError('CONTRACT_DATA_INVALID', \`what should be the contract's \${what} has another shape\`, { cause });
}

/** ethers reports some malformed values only when they are read, so they are all read here. */
function guarded(what: string, decode: () => Iterable<unknown> | undefined): readonly unknown[] {
  let values: readonly unknown[] | undefined;
  try {
    values = toArray(decode());
  } catch (cause) {
    throw invalid(what, cause);
  }
  if (values === undefined) throw invalid(what);
  return values;
}

function toArray(values: Iterable<unknown> | undefined): readonly unknown[] | undefined {
  return values && [...values];
}

/**
 * ethers cuts off what does not fit: a bool of 2, an address of 32 bytes. Only what encodes to the same bytes again is what
 * the contract can have said.
 */
function same(given: readonly string[], again: readonly (string | null)[]): boolean {
  return given.length === again.length && given.every((part, index) => part.toLowerCase() === again[index]);
}

function decoded(name: string, data: string): readonly unknown[] {
  return guarded(\`answer to \${name}\`, () => {
    const values = networkInterface.decodeFunctionResult(name, data);
    return same([data], [networkInterface.encodeFunctionResult(name, [...values])]) ? values : undefined;
  });
}

function text(value: unknown): string {
  if (typeof value !== 'string') throw invalid('string');
  return value;
}

function truth(value: unknown): boolean {
  if (typeof value !== 'boolean') throw invalid('bool');
  return value;
}

function big(value: unknown): bigint {
  if (typeof value !== 'bigint') throw invalid('uint');
  return value;
}

function small(value: unknown): number {
  return Number(big(value));
}

function list(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw invalid('list');
  return guarded('list', () => value);
}
`;

type Named = AbiEntry & { readonly name: string };

function named(abi: readonly AbiEntry[], type: AbiEntry['type']): Named[] {
  return abi
    .filter((entry): entry is Named => entry.type === type && entry.name !== undefined)
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function readable(abi: readonly AbiEntry[]): readonly string[] {
  // The constructor is for who deploys; ethers wants nothing else to encode calls.
  return abi
    .filter((entry) => entry.type !== 'constructor')
    .map((entry) => Interface.from([entry]).fragments[0]?.format('full' satisfies FormatType) ?? '')
    .sort();
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

/** The TypeScript type of a Solidity one. */
function typeOf(parameter: AbiParameter): string {
  const { type } = parameter;
  if (type.endsWith('[]')) return `readonly ${typeOf(element(parameter))}[]`;
  if (type === 'tuple' || isEnum(parameter)) return shortName(parameter);
  if (type === 'bool') return 'boolean';
  if (type === 'address' || type === 'string' || type.startsWith('bytes')) return 'string';
  const bits = /^uint(\d+)$/.exec(type)?.[1];
  if (bits) return Number(bits) <= NUMBER_BITS ? 'number' : 'bigint';
  throw new DstackError('ABI_UNSUPPORTED', `the generator has no TypeScript type for ${type}`);
}

/** The expression that turns ethers' value `from` into `typeOf`. */
function readerOf(parameter: AbiParameter, from: string): string {
  if (parameter.type.endsWith('[]')) {
    return `list(${from}).map((item) => ${readerOf(element(parameter), 'item')})`;
  }
  if (parameter.type === 'tuple' || isEnum(parameter)) return `read${shortName(parameter)}(${from})`;
  const reader = { boolean: 'truth', string: 'text', number: 'small', bigint: 'big' }[typeOf(parameter)];
  return `${reader}(${from})`;
}

function fields(parameters: readonly AbiParameter[]): string {
  return parameters.map((parameter) => `readonly ${parameter.name}: ${typeOf(parameter)};`).join('\n');
}

function reads(parameters: readonly AbiParameter[], from: string): string {
  return parameters
    .map((parameter, index) => `${parameter.name}: ${readerOf(parameter, `${from}[${index}]`)}`)
    .join(', ');
}

function interfaceOf(name: string, parameters: readonly AbiParameter[], comment: string): string {
  return `${doc(comment)}export interface ${name} {\n${fields(parameters)}\n}`;
}

function enumType([name, members]: [string, readonly string[]]): string {
  const values = members.map((member) => `'${member.toLowerCase()}'`).join(', ');
  const constant = name.slice(0, 1).toLowerCase() + name.slice(1);
  return `const ${constant} = [${values}] as const;
/** One of the contract's enum; INetwork.sol says what each means. */
export type ${name} = (typeof ${constant})[number];
function read${name}(value: unknown): ${name} {
  const member = ${constant}[small(value)];
  if (member === undefined) throw invalid('${name}');
  return member;
}`;
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
function read${name}(value: unknown): ${name} {
  const fields = list(value);
  return { ${reads(components, 'fields')} };
}`;
}

function functionCode(entry: Named, notices: CompiledNetwork['notices']): string[] {
  const name = capital(entry.name);
  const notice = notices[entry.name] ?? `\`${entry.name}\` of OpenZeppelin's Ownable2Step or EIP712.`;
  const code: string[] = [];
  if (entry.inputs.length > 0) {
    // OpenZeppelin names no input that would collide; a view's unnamed input would need a name here.
    code.push(interfaceOf(`${name}Args`, entry.inputs, `The arguments of \`${entry.name}\`.`));
    const values = entry.inputs.map((input) => `args.${input.name}`).join(', ');
    code.push(`${doc(notice)}export function encode${name}(args: ${name}Args): string {
  return networkInterface.encodeFunctionData('${entry.name}', [${values}]);
}`);
  } else {
    code.push(
      `${doc(notice)}export function encode${name}(): string {\n  return networkInterface.encodeFunctionData('${entry.name}');\n}`,
    );
  }
  if (entry.stateMutability === 'view' && entry.outputs) code.push(resultCode(entry.name, entry.outputs));
  return code;
}

function resultCode(name: string, outputs: readonly AbiParameter[]): string {
  const comment = doc(`What \`${name}\` returned.`);
  const signature = `export function decode${capital(name)}(data: string)`;
  const values = `const values = decoded('${name}', data);`;
  const [only] = outputs;
  if (outputs.length === 1 && only) {
    return `${comment}${signature}: ${typeOf(only)} {\n${values}\n  return ${readerOf(only, 'values[0]')};\n}`;
  }
  const result = `${capital(name)}Result`;
  return `${interfaceOf(result, outputs, `What \`${name}\` returns.`)}
${comment}${signature}: ${result} {\n${values}\n  return { ${reads(outputs, 'values')} };\n}`;
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

function parser(name: string, type: string, entries: readonly Named[], part: typeof EVENT_PARSER): string {
  const cases = entries.map(
    (entry) => `case '${entry.name}':\n return { name: '${entry.name}', ${reads(entry.inputs, 'args')} };`,
  );
  return `/**
 * ${part.doc}
 */
export function ${name}(${part.parameter}): ${type} | undefined {
  ${part.read('return undefined;')}
  switch (fragment.name) {
    ${cases.join('\n')}
    default:
      return undefined;
  }
}`;
}

function helpTable(errors: readonly Named[], notices: CompiledNetwork['notices']): string {
  const rows = errors.flatMap((entry) => {
    const notice = notices[entry.name];
    return notice ? [`${entry.name}: ${JSON.stringify(notice)}`] : [];
  });
  return `const networkErrorHelp: Readonly<Partial<Record<NetworkError['name'], string>>> = { ${rows.join(', ')} };`;
}
