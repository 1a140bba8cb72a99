// Where a request comes from, behind proxies that are trusted and no others.
import { BlockList, isIP, isIPv4 } from 'node:net';

/**
 * An address without its port, brackets and zone; null for what is none, so
 * that a key that is bound to addresses is refused.
 *
 * @param {string | null | undefined} text
 * @returns {string | null}
 */
export function bareAddress(text) {
  let address = (text ?? '').trim();
  address = /^\[(.*)\](?::\d+)?$/.exec(address)?.[1] ?? /^([\d.]+):\d+$/.exec(address)?.[1] ?? address;
  address = address.replace(/%.*$/, '').replace(/^::ffff:(?=[\d.]+$)/i, '');
  return isIP(address) ? address : null;
}

/**
 * @param {readonly string[]} proxies addresses and networks
 * @returns {(address: string) => boolean}
 */
export function trusting(proxies) {
  const list = new BlockList();
  for (const proxy of proxies) {
    const [address, bits] = proxy.split('/');
    const family = isIP(address);
    if (!family || (bits !== undefined && !(/^\d+$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128))))
      throw new TypeError(`not an address or a network: ${proxy}`);
    const type = family === 4 ? 'ipv4' : 'ipv6';
    if (bits === undefined) list.addAddress(address, type);
    else list.addSubnet(address, Number(bits), type);
  }
  return (address) => list.check(address, isIPv4(address) ? 'ipv4' : 'ipv6');
}

/**
 * The last address that no trusted proxy vouches for: what stands left of it
 * was written by whoever asks.
 *
 * @param {string | null | undefined} peer who is connected
 * @param {string | null | undefined} forwarded the header X-Forwarded-For
 * @param {(address: string) => boolean} trusted
 * @returns {string | null} null where it cannot be told
 */
export function clientAddress(peer, forwarded, trusted) {
  let address = bareAddress(peer);
  const hops = (forwarded ?? '').split(',').filter((hop) => hop.trim() !== '');
  while (address !== null && trusted(address) && hops.length > 0) address = bareAddress(hops.pop());
  return address;
}
