// A key's text: what it names can be read without asking anybody.
const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

// What to look for, without a secret: where a text holds a key, or the better
// part of one, its id; and its masked form where it has no id.
export function withoutKey(text) {
  const found = /(?<![0-9A-Za-z_])([a-z][a-z0-9_]{0,19}_)(?:([0-9A-Za-z]{22})[0-9A-Za-z]{5,}|[0-9A-Za-z_-]{32,})/.exec(text);
  if (!found) return text;
  const [all, prefix, digits] = found;
  const id = [...digits ?? ''].reduce((sum, digit) => sum * 62n + BigInt(DIGITS.indexOf(digit)), 0n);
  const hex = id.toString(16).padStart(32, '0');
  return digits && hex.length === 32 ? hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-') : `${prefix}...${all.slice(-4)}`;
}
