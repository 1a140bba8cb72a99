# Keys of hmac-sha256 hang on a secret in a file; keys of Django's own hasher,
# where Django is installed; who opens an import does not hold up another.
use strict;
use warnings;
use Digest::SHA qw(hmac_sha256_hex hmac_sha256_base64);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $file = "$dir/secrets";

sub write_file
{
	my ($content) = @_;
	unlink $file;
	open my $out, '>', $file or die $!;
	chmod 0600, $file;
	print $out $content;
	close $out;
}

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{shared_preload_libraries = 'apikey'});
$node->start;
sub sql { return $node->safe_psql('postgres', @_) }
sub fails { my ($sql) = @_; my ($r, $out, $err) = $node->psql('postgres', "\\set VERBOSITY sqlstate\n$sql"); return $err =~ /ERROR:  (\w{5})/ ? $1 : 'none' }
sub code { my ($key) = @_; return sql("SELECT code FROM apikey_verify('$key')") }
sub set_file
{
	sql("ALTER SYSTEM SET apikey.import_secret_file = '$_[0]'");
	sql('SELECT pg_reload_conf()');
	ok($node->poll_query_until('postgres', "SELECT current_setting('apikey.import_secret_file') = '$_[0]'"), 'a reload');
}
sql('CREATE EXTENSION apikey CASCADE; CREATE ROLE anna');

my @secrets = ('first secret of theirs', "\x00\x01\xfe\xff binary", 'another');
my $import = sub { my ($n, $hash) = @_; return "SELECT apikey_import('hmac-$n', 'hmac-sha256', '$hash') IS NOT NULL" };
is(fails($import->(0, hmac_sha256_hex('their key 0', $secrets[0]))), '55000', 'no secret, no import');
write_file("$secrets[0]\n\nhex:" . unpack('H*', $secrets[1]) . "\r\nbase64:YW5vdGhlcg==\n");
set_file($file);
is(sql($import->(0, hmac_sha256_hex('their key 0', $secrets[0]))), 't', 'one');
my $base64 = hmac_sha256_base64('their key 1', $secrets[1]);
is(sql($import->(1, "$base64=")), 't', 'base64, a secret in hexadecimal');
$base64 = hmac_sha256_base64('their key 2', $secrets[2]) =~ tr{+/}{-_}r;
is(sql($import->(2, $base64)), 't', 'base64url, a secret in base64');
is(sql($import->(3, hmac_sha256_hex('their key 3', $secrets[2]))), 't', 'another');
is(code("their key $_"), 'valid', "key $_") for 0 .. 2;
is(code('their key 4'), 'malformed', 'nobody\'s');
is(sql(q{SELECT code FROM apikey_verify(encode(hmac('their key 3', 'another', 'sha256'), 'hex'))}), 'malformed', 'the hash is no key');
unlike(sql(q{SET ROLE anna; SELECT coalesce(max(setting), '') FROM pg_settings WHERE name = 'apikey.import_secret_file'}), qr/secrets/, 'where the file is, is a superuser\'s');

# A file that cannot be used decides nothing; what was verified needs it no more.
ok($node->poll_query_until('postgres', q{SELECT count(*) = 3 FROM apikey_events WHERE event = 'rehashed'}), 'verified ones have the native digest');
chmod 0644, $file;
sql('SELECT pg_reload_conf()');
ok($node->poll_query_until('postgres', q{SELECT code = 'unavailable' FROM apikey_verify('their key 3')}), 'others may read it: unavailable');
is(code('their key 0'), 'valid', 'a verified key goes on');
is(fails($import->(5, hmac_sha256_hex('x', $secrets[0]))), '55000', 'and nothing is imported');
for (["hex:0g\n", 'no hexadecimal digits'], ["base64:%\n", 'no base64'], ["\n", 'empty'])
{
	write_file($_->[0]);
	sql('SELECT pg_reload_conf()');
	is(code('their key 3'), 'unavailable', $_->[1]);
}
write_file("$secrets[2]\n");
sql('SELECT pg_reload_conf()');
ok($node->poll_query_until('postgres', q{SELECT code = 'valid' FROM apikey_verify('their key 3')}), 'read again');
unlike(slurp_file($node->logfile), qr/YW5vdGhlcg|first secret/, 'no secret in the log');

# Django's own hasher.
SKIP:
{
	my $python = '/usr/bin/python3';
	skip 'no Django', 4 if system("$python -c 'import django' >/dev/null 2>&1") != 0;
	my $made = qx{$python -c "
from django.conf import settings
settings.configure()
from django.contrib.auth.hashers import PBKDF2PasswordHasher
import secrets
key = 'Zb8xQ2kL.' + secrets.token_urlsafe(32)
print(key, PBKDF2PasswordHasher().encode(key, PBKDF2PasswordHasher().salt()))"};
	my ($key, $hash) = split ' ', $made;
	like($hash, qr/^pbkdf2_sha256\$\d{5,}\$/, "made by Django: " . ($hash =~ s/\$.{22}.*//r));
	is(sql("SELECT apikey_import('django', 'pbkdf2-sha256', '$hash', 'Zb8xQ2kL.') IS NOT NULL"), 't', 'its hash');
	is(code($key), 'valid', 'its key');
	is(code(substr($key, 0, -1) . '!'), 'malformed', 'no other');
}

# One slow hash an attempt, however many keys are imported.
sql(q{SELECT count(apikey_import('slow-' || i, 'pbkdf2-sha256', 'pbkdf2_sha256$1000000$salt$' || encode(sha256(i::text::bytea), 'base64'), 'slow' || to_char(i, 'FM0000'))) FROM generate_series(1, 100) i});
sql("SET statement_timeout = '60s'; SELECT code FROM apikey_verify('slow0050-and-something')");
my ($r, $out, $err) = $node->psql('postgres', "SET statement_timeout = '20ms'; SELECT code FROM apikey_verify('slow0050-and-something')");
like($err, qr/canceling statement due to statement timeout/, 'a slow hash can be cancelled');
is(sql("SET statement_timeout = '5s'; SELECT count(*) FROM generate_series(1, 200) i, apikey_verify('slow-and-no-lookup-' || i)"), '200', 'what begins with no lookup costs none');

# An open import holds up none but one that clashes.
my $open = $node->background_psql('postgres');
$open->query_safe(q{BEGIN; SELECT apikey_import('open', 'crypt', crypt('sk_open_1', gen_salt('bf', 4)), 'sk_open_1')});
is(sql(q{SET lock_timeout = '5s'; SELECT apikey_import('beside', 'crypt', crypt('sk_open_2', gen_salt('bf', 4)), 'sk_open_2') IS NOT NULL}), 't', 'another lookup');
is(fails(q{SET statement_timeout = '500ms'; SELECT apikey_import('clash', 'crypt', crypt('sk_open_12', gen_salt('bf', 4)), 'sk_open_12')}), '57014', 'one that it begins waits');
is(fails(q{SET statement_timeout = '500ms'; SELECT apikey_import('clash', 'crypt', crypt('sk_open_', gen_salt('bf', 4)), 'sk_open_')}), '23505', 'one that begins a committed one does not');
$open->query_safe('COMMIT');
is(fails(q{SELECT apikey_import('clash', 'crypt', crypt('sk_open_12', gen_salt('bf', 4)), 'sk_open_12')}), '23505', 'and is refused');
$open->quit;
$node->stop;
done_testing();
