# examples/python: the same in a few lines, with clients/python and Debian's psycopg 3.
use strict;
use warnings;
use lib 'test';
use Cwd qw(getcwd);
use Example;
use PostgreSQL::Test::Utils;
use Test::More;

# Debian's modules belong to Debian's Python, which need not be the first.
my $python = '/usr/bin/python3';
cannot_run('psycopg 3 with its pool is not installed (Debian: python3-psycopg-pool)')
	if system("$python -c 'import psycopg_pool' >/dev/null 2>&1") != 0;
my $pepper = PostgreSQL::Test::Utils::tempdir() . '/pepper';
append_to_file($pepper, 'p' x 40);
chmod 0600, $pepper;
my $server = protected_server("log_statement = 'all'", "apikey.pepper_file = '$pepper'");
my $reader = create_key($server, q{'reader', 'acme/payments', scopes => '{invoices:read}'});
my $writer = create_key($server, q{'writer', 'acme/payments', scopes => '{invoices:write}'});
my $limited = create_key($server, q{'limited', 'acme/website', scopes => '{*}', rate_limit => 1, rate_window => '1 hour'});
$ENV{PYTHONPATH} = getcwd() . '/clients/python/src';
my $api = start_program(getcwd() . '/examples/python', $python, 'server.py');

sub status_is
{
	my ($headers, $status, $content, $name) = @_;
	my $response = request($api, 'GET', '/', $headers);
	is("$response->{status} $response->{content}", "$status $content\n", $name);
	return $response;
}
my $rows = '[{"id": 1, "customer": "Ada", "amount": 99.5}, {"id": 2, "customer": "Grace", "amount": 12.0}]';
status_is({ 'x-api-key' => $reader }, 200, $rows, 'a key opens the rows of its project');
status_is({ authorization => "Bearer $reader" }, 200, $rows, 'as a Bearer token');
my $response = status_is({}, 401, '{"error": "missing"}', 'no key');
is($response->{headers}{'www-authenticate'}, 'Bearer', 'and how to bring one');
status_is({ authorization => 'Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln' }, 401, '{"error": "malformed"}', 'a JWT');
status_is({ 'x-api-key' => [ $reader, $reader ] }, 401, '{"error": "malformed"}', 'two headers');
status_is({ 'x-api-key' => 'x' x 60_000 }, 401, '{"error": "malformed"}', 'a long header');
status_is({ 'x-api-key' => substr($reader, 0, -39) . 'x' x 39 }, 401, '{"error": "not_found"}', 'a forged secret');
status_is({ 'x-api-key' => $writer }, 403, '{"error": "insufficient_scope"}', 'without the scope');
status_is({ 'x-api-key' => $limited }, 200, '[{"id": 3, "customer": "Linus", "amount": 7.0}]', 'another project, limited');
status_is({ 'x-api-key' => $limited }, 429, '{"error": "rate_limited"}', 'over the limit');
status_is({ 'x-api-key' => $reader }, 200, $rows, 'each request anew');
my $token = $server->safe_psql('postgres', "SELECT auth.apikey_token_create('$reader')");
status_is({ 'x-api-key' => $token }, 200, $rows, 'a token of the key');
status_is({ authorization => "Bearer $token" }, 200, $rows, 'as a Bearer token, too');
status_is({ 'x-api-key' => substr($token, 0, -6) . '000000' }, 401, '{"error": "malformed"}', 'a wrong one');
$server->safe_psql('postgres', q{SELECT auth.apikey_revoke(id) FROM auth.apikeys WHERE name = 'reader'});
status_is({ 'x-api-key' => $reader }, 401, '{"error": "revoked"}', 'revoked');
status_is({ 'x-api-key' => $token }, 401, '{"error": "revoked"}', 'and its token');

my $log = stop_program($api) . slurp_file($server->logfile);
is(scalar(() = $log =~ /\Q$_\E/g), 0, 'not in a log') for map { substr $_, -39 } $reader, $writer, $limited;
$server->stop;
done_testing();
