# The format and the stored digest by an independent computation, and texts
# that are nearly keys.
use strict;
use warnings;
use Digest::SHA qw(hmac_sha256_hex sha256);
use Math::BigInt;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $digits = join '', 0 .. 9, 'A' .. 'Z', 'a' .. 'z';

sub base62
{
	my $n = Math::BigInt->new(0);
	$n = $n * 62 + index($digits, $_) for split //, shift;
	return $n;
}

sub crc32
{
	my $crc = 0xFFFFFFFF;
	for my $byte (unpack 'C*', shift)
	{
		$crc ^= $byte;
		$crc = $crc & 1 ? ($crc >> 1) ^ 0xEDB88320 : $crc >> 1 for 1 .. 8;
	}
	return $crc ^ 0xFFFFFFFF;
}

sub stored { return hmac_sha256_hex(sha256(shift), '') }

my $vector = 'ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk';
is(stored($vector),
	'9820cbca0da7a5cd7f3bc1ad4df958b6324a8a5cd2eb545b780e895d5eacc98b',
	'the computation agrees with the published vector');

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE');

my @rows = split /\n/, $node->safe_psql('postgres', q{
	WITH made AS MATERIALIZED (
		SELECT apikey_create('key-' || i, prefix => 'p' || i % 10) AS key FROM generate_series(1, 500) i)
	SELECT key, apikey_id(key) FROM made});
my %digest = map { split /\|/ } split /\n/,
  $node->safe_psql('postgres', q{SELECT id, encode(digest, 'hex') FROM apikey_digest});
my @wrong = grep {
	my ($key, $id) = split /\|/;
	(my $hex = $id) =~ tr/-//d;
	my ($number, $secret, $checksum) =
	  $key =~ /^p[0-9]_([0-9A-Za-z]{22})([0-9A-Za-z]{33})([0-9A-Za-z]{6})$/;
	!defined $number
	  || base62($number) != Math::BigInt->from_hex($hex)
	  || base62($checksum) != crc32(substr $key, 0, -6)
	  || $digest{$id} ne stored($key)
} @rows;
is(scalar(@rows), 500, 'keys made');
is("@wrong", '', 'keys that are not as the interface says');

# One or two changes in a key: nothing but the key itself is ever valid, and
# no text stops the query.
srand(20261120);
my @alphabet = (split(//, $digits), '_', '-', ' ', "\n", "'", "\x{7f}", "\x{e9}", "\x{1F511}");
my @texts;
for my $row (@rows)
{
	my ($key) = split /\|/, $row;
	for (1 .. 20)
	{
		my $text = $key;
		for (0 .. int rand 2)
		{
			my $at = int rand length $text;
			my $length = int rand 2;
			substr($text, $at, $length) = $alphabet[ rand @alphabet ] if rand() < 0.8;
			substr($text, $at, 1 + int rand 3) = '' if rand() < 0.2;
		}
		push @texts, $text if $text ne $key;
	}
}
my $file = PostgreSQL::Test::Utils::tempdir() . '/texts';
open my $out, '>:encoding(UTF-8)', $file or die $!;
print $out map { s/\\/\\\\/gr =~ s/\n/\\n/gr . "\n" } @texts;
close $out;
my $counts = $node->safe_psql('postgres', qq{
	CREATE TABLE texts (t text);
	COPY texts FROM '$file' (ENCODING 'UTF8');
	SELECT count(*), count(*) FILTER (WHERE valid), count(*) FILTER (WHERE code NOT IN ('malformed', 'not_found')),
		count(*) FILTER (WHERE apikey_check(t)) FROM texts, apikey_verify(t)});
is($counts, scalar(@texts) . '|0|0|0', 'texts that are nearly keys');

$node->stop;
done_testing();
