/**
 * The website's certificate. One is held for a network, the newest: kept when it is for the key and the names that this host's own
 * node says, ends in a root that is trusted here, and is newer than the one held. So a stranger can make relays store or spread
 * nothing but what an authority issued for the network's own key. Whether it is used is for each node to decide.
 */
import { sha256, toHex, utf8 } from '../../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../../lib/protocol/errors.ts';
import {
  type CertificateMessage,
  CertificateMessageSchema,
} from '../../../lib/protocol/onboarding-messages.ts';
import {
  type CertificateRule,
  judgeCertificate,
  type SiteCertificate,
} from '../../../lib/site/certificate-rule.ts';
import type { MessageKind } from '../../gossip/message-kind.ts';
import type { MessageLog } from '../../gossip/message-log.ts';
import { type Admission, checkNetwork } from '../admission.ts';

/** All are about the same: a log is of one network. */
const SUBJECT = toHex(sha256(utf8('dstack/certificate')));

export const certificateKind: MessageKind<CertificateMessage, Admission> = {
  type: 'certificate',
  schema: CertificateMessageSchema,
  hasSpareCopies: true,
  subjectOf: () => SUBJECT,
  faultCodes: ['GOSSIP_OTHER_NETWORK', 'CERT_MALFORMED'],

  /** @throws GOSSIP_OTHER_NETWORK, GOSSIP_NO_SITE, CERT_* */
  async admit(message, { network, held, certificate: rule }) {
    checkNetwork(network.domain, message);
    if (rule === undefined) {
      // Not "for now": a peer that offers it again and again has nothing else through. It comes again every minute.
      throw new DstackError('GOSSIP_NO_SITE', "this relay's node has not said what its certificate must be");
    }
    if (held.about(certificateKind, SUBJECT).some(({ chain }) => chain === message.chain)) return message;
    const { chain } = judgeCertificate(message.chain, rule, newestCertificate(held, rule));
    return { ...message, chain };
  },
};

/** The newest that is held and still fits. */
export function newestCertificate(
  held: Pick<MessageLog, 'about'>,
  rule: CertificateRule,
): SiteCertificate | undefined {
  let newest: SiteCertificate | undefined;
  for (const { chain } of held.about(certificateKind, SUBJECT)) {
    try {
      newest = judgeCertificate(chain, rule, newest);
    } catch (error) {
      if (!codeOf(error).startsWith('CERT_')) throw error;
    }
  }
  return newest;
}

/** All that are held. */
export const heldCertificates = (held: Pick<MessageLog, 'about'>): CertificateMessage[] =>
  held.about(certificateKind, SUBJECT);
