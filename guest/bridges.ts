/**
 * Apps' own networks: kubernethes makes their bridges and gives every container an address, the agent listens at their gateways. The
 * packet filter (image/rootfs/etc/dstack/firewall.nft) knows names, prefix, and what a number of a container means; a test compares them.
 */

/** How many there can be. */
export const BRIDGES = 250;

/** Linux allows 15 characters. */
export const bridgeName = (index: number): string => `dstack${index}`;

/** The guest's address on a bridge. */
export const gatewayOf = (index: number): string => `10.90.${index}.1`;

/**
 * The numbers of containers on their bridge: what one may reach is a bit of its address, so that the filter, which is measured and
 * never changed, knows it. 64 of each are those of eight manifests in a row.
 */
export const NUMBERS = { none: { first: 64, count: 64 }, internet: { first: 128, count: 64 } } as const;

/** A container's address on the bridge with this gateway. */
export const addressOf = (gateway: string, number: number): string => gateway.replace(/\.1$/, `.${number}`);

/** The one hardware address that may use a number: on each bridge the same. */
export const hardwareAddressOf = (number: number): string =>
  `02:64:73:74:6b:${number.toString(16).padStart(2, '0')}`;

/** Where the node's resolver answers containers that reach out: an address of the machine's own, on no bridge. */
export const RESOLVER = '10.90.255.53';

/** For how long the agent may go by what kubernethes has said, milliseconds. */
export const REMEMBERED = 10_000;

/**
 * For how long an address or a bridge that was given back is nobody's, milliseconds: longer than anybody on the node remembers whose
 * it was. The agent does for `REMEMBERED`, the website's front for `LED_FOR`.
 */
export const REST = 60_000;

/**
 * For how long visitors are led to where kubernethes has said last while it says nothing, milliseconds. Shorter than `REST` by what it
 * takes the front's driver to find out that it does, and to tell the front.
 */
export const LED_FOR = REST - 20_000;

/**
 * The same while there is no kubernethes, or it has not taken over yet what the one before it left: what that ran runs on, and nobody
 * gives its addresses to anybody. So long a version may be led to that its network runs no more, if kubernethes does not come back.
 */
export const LED_WITHOUT = 600_000;
