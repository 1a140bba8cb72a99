# Leaks: the patterns that scanners are given, and examples/leak-webhook.
use strict;
use warnings;
use lib 'test';
use Cwd qw(getcwd);
use Digest::SHA qw(hmac_sha256_hex sha256_base64);
use Example;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $python = '/usr/bin/python3';
cannot_run('psycopg 3 is not installed (Debian: python3-psycopg)')
	if system("$python -c 'import psycopg' >/dev/null 2>&1") != 0;
my $pepper = PostgreSQL::Test::Utils::tempdir() . '/pepper';
append_to_file($pepper, 'p' x 40);
chmod 0600, $pepper;
my $server = protected_server("apikey.pepper_file = '$pepper'");
$server->command_ok([ 'psql', '-Xq', '-d', 'postgres', '-f', 'examples/leak-webhook/setup.sql' ], 'setup.sql');
my $key = create_key($server, q{'leaked', 'acme/website'});
my $long = create_key($server, q{'other', 'acme/website', prefix => 'a_prefix_of_20_chars', scopes => '{a:*}'});
$server->safe_psql('postgres', 'CREATE ROLE anna; CREATE ROLE ben; GRANT USAGE ON SCHEMA auth TO anna; GRANT USAGE ON SCHEMA auth, api TO ben');
my $personal = $server->safe_psql('postgres', q{SET ROLE anna; SELECT auth.apikey_create('mine', subject => 'Ada')});
my $token = $server->safe_psql('postgres', "SELECT auth.apikey_token_create('$long')");
my $scoped = $server->safe_psql('postgres', "SELECT auth.apikey_token_create('$long', scopes => ARRAY['a:' || repeat('x', 198)])");

# The patterns of contrib/gitleaks.toml find what is one, alone and in a text.
my $text = "a=$key;b='$token',$scoped\n$long " . substr($key, 0, -1) . ' some_' . 'x' x 60 . ' some_' . 'x' x 62 . ' ' . substr($token, 0, 80);
my $found;
IPC::Run::run([ $python, '-c', q{
import re, sys, tomllib
rules = tomllib.load(open("contrib/gitleaks.toml", "rb"))["rules"]
for rule in rules:
    print(rule["id"], *(m.group(rule["secretGroup"]) for m in re.finditer(rule["regex"], sys.argv[1])))
}, $text ], '>', \$found);
is($found, "apikey-key $key $long\napikey-token $token $scoped\n", 'the patterns find keys and tokens, and no others');

# The receiver.
my ($last_four, $secret) = (substr($key, -4), 'shared');
local $ENV{LEAK_SECRET} = $secret;
my $receiver = start_program(getcwd() . '/examples/leak-webhook', $python, 'server.py');
sub report
{
	my ($body, $signature) = @_;
	$signature //= 'sha256=' . hmac_sha256_hex($body, $secret);
	return request($receiver, 'POST', '/', { 'x-signature-256' => $signature }, $body);
}
sub find { return encode_json([ map { { token => $_, type => 'apikey', url => 'https://example.com/x' } } @_ ]) }
sub labels { return join ',', map { $_->{label} } @{ json_body(report(find(@_))) } }

is(report(find($key), 'sha256=' . '0' x 64)->{status}, 401, 'not for everybody');
is(report('not JSON')->{status}, 400, 'no report');
is($server->safe_psql('postgres', 'SELECT count(*) FROM api.leak'), 0, 'nothing is done');
is(labels($key, substr($key, 0, -1), 'nonsense', "a\0b", '', substr($key, 0, -39) . 'x' x 39), 'true_positive' . ',false_positive' x 5, 'ours, and others');
is(json_body(report(find($personal)))->[0]{token_hash}, sha256_base64($personal) . '=', 'the answer names it by its hash');
is($server->safe_psql('postgres', q{SELECT code FROM auth.apikey_verify('} . $key . q{', project => 'acme')}), 'revoked', 'it is revoked');
is($server->safe_psql('postgres', q{SELECT revoke_reason FROM auth.apikeys WHERE name = 'leaked'}), 'leaked: https://example.com/x', 'with where it was found');
is(labels($key), 'true_positive', 'told again, it is no news');
is(labels($token), 'true_positive', 'a token is told');
is($server->safe_psql('postgres', qq{SELECT code FROM auth.apikey_verify('$long', project => 'acme')}), 'valid', 'and its key goes on');
is($server->safe_psql('postgres', q{SELECT name, owner = current_user, subject, project, revoked FROM api.leak ORDER BY id}),
	"leaked|t||acme/website|t\nmine|f|Ada||t\nleaked|t||acme/website|f\nother|t||acme/website|f", 'the owners read of it');
is($server->safe_psql('postgres', 'GRANT USAGE ON SCHEMA api TO anna; SET ROLE anna; SELECT name FROM api.leak'), 'mine', 'each of its own');
is($server->safe_psql('postgres', 'SET ROLE ben; SELECT count(*) FROM api.leak'), 0, 'and others of none');
# An owner that is dropped keeps nobody from reading, and one made anew under its name reads nothing of it.
my $of_carl = $server->safe_psql('postgres', q{CREATE ROLE carl; GRANT USAGE ON SCHEMA auth, api TO carl; SET ROLE carl; SELECT auth.apikey_create('of-carl')});
is(labels($of_carl), 'true_positive', 'another owner');
is($server->safe_psql('postgres', 'SET ROLE carl; SELECT name FROM api.leak'), 'of-carl', 'reads of it');
$server->safe_psql('postgres', 'DROP OWNED BY carl; DROP ROLE carl');
is($server->safe_psql('postgres', 'SET ROLE anna; SELECT name FROM api.leak'), 'mine', 'once it is dropped, the others read on');
$server->safe_psql('postgres', 'CREATE ROLE carl; GRANT USAGE ON SCHEMA api TO carl');
is($server->safe_psql('postgres', 'SET ROLE carl; SELECT count(*) FROM api.leak'), 0, 'and another role of its name reads nothing');
is($server->safe_psql('postgres', 'SELECT count(*) FROM auth.apikeys', extra_params => [ '-U', 'leaks' ]), 0, 'the receiver has no right to a key');
unlike(stop_program($receiver), qr/\Q$last_four\E/, 'no key in its output');
$server->stop;
done_testing();
