/** A client's stream over one of etcd's: both directions at once, and both end when either fails. */
import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import type { UpstreamStream } from '../types.ts';

/**
 * @param requests hands on what the client asks; when it returns, nothing more is asked, and etcd's answers still come
 * @param answer hands on what etcd answers, one after the other
 */
export async function relayed<I extends DescMessage, O extends DescMessage>(
  upstream: UpstreamStream<I, O>,
  requests: () => Promise<void>,
  answer: (reply: MessageShape<O>) => Promise<void>,
): Promise<void> {
  const asked = requests().then(() => upstream.end());
  const answered = (async () => {
    for await (const reply of upstream) await answer(reply);
  })();
  // Only the first failure is told; the other side ends because of it.
  for (const side of [asked, answered]) side.catch(() => upstream.close());
  await Promise.all([asked, answered]);
}
