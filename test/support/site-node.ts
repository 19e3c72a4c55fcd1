/** A node's own paths on its website, as a visitor and its relay reach them: the guest's code, with the rule itself in acme's place. */
import { createServer, type Server } from 'node:https';
import { answersServer } from '../../guest/tls/answers.ts';
import { selfSigned } from '../../guest/tls/certificate.ts';
import { certificatePaths } from '../../guest/tls/certificate-paths.ts';
import { nodePaths } from '../../guest/tls/node-paths.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { p256PublicKey } from '../../lib/protocol/site-evidence.ts';
import type { AcmeStatus } from '../../lib/protocol/sockets.ts';
import { judgeCertificate, parseRoots, type SiteCertificate } from '../../lib/site/certificate-rule.ts';
import { signingRequest } from '../../lib/site/signing-request.ts';
import { listenOn } from './front.ts';

export interface SiteNodeOptions {
  /** The network's TLS key, 32 bytes. */
  privateKey: Uint8Array;
  names: readonly string[];
  /** What it trusts, PEM. */
  roots: readonly string[];
}

export class SiteNode {
  /** What it uses. */
  certificate: SiteCertificate | undefined;
  status: AcmeStatus = { state: 'brought', hostImpersonable: true };
  /** How often a chain was brought, and what became of each: its serial, or the code. */
  readonly brought: string[] = [];
  url = '';
  readonly #options: SiteNodeOptions;
  readonly #server: Server;

  private constructor(options: SiteNodeOptions) {
    this.#options = options;
    const { privateKey, names } = options;
    const csr = Buffer.from(signingRequest(privateKey, names)).toString('base64');
    const node = nodePaths(
      certificatePaths({
        site: () => ({
          csr,
          alpn: [],
          status: this.status,
          ...(this.certificate === undefined ? {} : { chain: this.certificate.chain }),
        }),
        give: async (chain) => this.take(chain),
      }),
    );
    const answers = answersServer({ reason: () => 'no app', node });
    const contract = parseAddress(`0x${'ab'.repeat(20)}`);
    const own = selfSigned({ privateKey, chainId: 1, contract, builtAt: Math.floor(Date.now() / 1000) });
    const tls = { key: own.key.export({ type: 'pkcs8', format: 'pem' }), cert: own.certificate };
    this.#server = createServer(tls, (request, response) => answers.emit('request', request, response));
  }

  static async start(options: SiteNodeOptions): Promise<SiteNode> {
    const node = new SiteNode(options);
    node.url = `https://127.0.0.1:${await listenOn(node.#server)}`;
    return node;
  }

  /** @throws CERT_* */
  take(chain: string): void {
    const { privateKey, names, roots } = this.#options;
    const rule = {
      publicKey: p256PublicKey(privateKey),
      names,
      roots: parseRoots(roots.join('\n')),
      now: Math.floor(Date.now() / 1000),
    };
    try {
      this.certificate = judgeCertificate(chain, rule, this.certificate);
      this.brought.push(this.certificate.serial);
    } catch (error) {
      this.brought.push((error as { code: string }).code);
      throw error;
    }
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
