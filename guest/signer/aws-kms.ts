/** AWS Key Management Service as a key service: `Encrypt` and `Decrypt`, signed by Signature Version 4. */
import { createHash, createHmac } from 'node:crypto';
import { type Static, Type } from 'typebox';
import { DstackError } from '../../lib/protocol/errors.ts';
import { parseJson } from '../../lib/protocol/schema.ts';
import type { KeyService } from './backup.ts';

const MAX_ANSWER = 64 * 1024;
const WITHIN = 20_000;
const TYPE = 'application/x-amz-json-1.1';
/** Bound to every ciphertext: nothing else that the key encrypts is taken for a backup. */
const CONTEXT = { purpose: 'dstack-signer-backup' };

export interface AwsAccess {
  /** The key's ARN, which names its region too. */
  readonly keyArn: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
  /** Instead of the region's own. */
  readonly endpoint?: string | undefined;
}

const Base64 = Type.String({ pattern: '^[A-Za-z0-9+/]+={0,2}$', maxLength: 32 * 1024 });
const Encrypted = Type.Object({ CiphertextBlob: Base64 });
const Decrypted = Type.Object({ Plaintext: Base64 });

/** @throws KMS_KEY for what is no ARN of a key, KMS_ENDPOINT for what is no URL */
export function awsKms(access: AwsAccess): KeyService {
  if (access.endpoint !== undefined && !/^https?:$/.test(URL.parse(access.endpoint)?.protocol ?? ''))
    throw new DstackError('KMS_ENDPOINT', `${access.endpoint} is no URL of a key service`);
  const region = /^arn:aws[a-z-]*:kms:([a-z0-9-]+):\d{12}:(?:key|alias)\/[\w/-]+$/.exec(access.keyArn)?.[1];
  if (region === undefined)
    throw new DstackError('KMS_KEY', `${access.keyArn} is no ARN of a key of AWS KMS`);
  return {
    name: 'aws-kms',
    wrap: async (plain) => {
      const body = { Plaintext: base64(plain), EncryptionContext: CONTEXT, KeyId: access.keyArn };
      return bytes((await call(access, region, 'Encrypt', body, Encrypted)).CiphertextBlob);
    },
    unwrap: async (wrapped) => {
      const body = { CiphertextBlob: base64(wrapped), EncryptionContext: CONTEXT, KeyId: access.keyArn };
      return bytes((await call(access, region, 'Decrypt', body, Decrypted)).Plaintext);
    },
  };
}

const base64 = (data: Uint8Array): string => Buffer.from(data).toString('base64');
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'));

async function call<T extends typeof Encrypted | typeof Decrypted>(
  access: AwsAccess,
  region: string,
  action: 'Encrypt' | 'Decrypt',
  body: object,
  reply: T,
): Promise<Static<T>> {
  const url = new URL(access.endpoint ?? `https://kms.${region}.amazonaws.com/`);
  const text = JSON.stringify(body);
  const headers = {
    'content-type': TYPE,
    host: url.host,
    'x-amz-date': new Date().toISOString().replace(/[-:]|\.\d{3}/g, ''),
    ...(access.sessionToken !== undefined && { 'x-amz-security-token': access.sessionToken }),
    'x-amz-target': `TrentService.${action}`,
  };
  const authorization = authorize(access, {
    region,
    service: 'kms',
    path: url.pathname,
    headers,
    body: text,
  });
  let answer: Response;
  let said: string;
  try {
    answer = await fetch(url, {
      method: 'POST',
      headers: { ...headers, authorization },
      body: text,
      redirect: 'error',
      signal: AbortSignal.timeout(WITHIN),
    });
    said = await answer.text();
  } catch (cause) {
    throw new DstackError('KMS_UNREACHABLE', `AWS KMS cannot be reached at ${url.host}`, { cause });
  }
  if (!answer.ok) throw new DstackError('KMS_REFUSED', `AWS KMS refused ${action}: ${said.slice(0, 300)}`);
  return parseJson(reply, said, 'KMS_ANSWER', 'the answer of AWS KMS', MAX_ANSWER);
}

interface ToSign {
  readonly region: string;
  readonly service: string;
  readonly path: string;
  /** Lower-case names, in the order of the alphabet, with x-amz-date. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Signature Version 4 of a POST without a query (docs.aws.amazon.com/IAM, "Create a signed AWS API request"). */
export function authorize(
  { accessKeyId, secretAccessKey }: Pick<AwsAccess, 'accessKeyId' | 'secretAccessKey'>,
  { region, service, path, headers, body }: ToSign,
): string {
  const names = Object.keys(headers).sort();
  const signed = names.join(';');
  const lines = names.map((name) => `${name}:${headers[name]!.trim()}\n`).join('');
  const request = ['POST', path, '', lines, signed, sha256(body)].join('\n');
  const time = headers['x-amz-date']!;
  const scope = `${time.slice(0, 8)}/${region}/${service}/aws4_request`;
  const toSign = ['AWS4-HMAC-SHA256', time, scope, sha256(request)].join('\n');
  const key = [time.slice(0, 8), region, service, 'aws4_request'].reduce<string | Buffer>(
    (secret, part) => hmac(secret, part),
    `AWS4${secretAccessKey}`,
  );
  const signature = hmac(key, toSign).toString('hex');
  return `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope}, SignedHeaders=${signed}, Signature=${signature}`;
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const hmac = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();
