# examples/postgrest: the statements that PostgREST sends for a request, over
# one connection, as it pools them.
use strict;
use warnings;
use lib 'test';
use Example;
use PostgreSQL::Test::Utils;
use Test::More;

my $server = protected_server("log_statement = 'none'");
$server->command_ok([ 'psql', '-Xq', '-d', 'postgres', '-f', 'examples/postgrest/setup.sql' ], 'examples/postgrest/setup.sql');
my %conf = slurp_file('examples/postgrest/postgrest.conf') =~ /^([a-z-]+) = "(.*)"$/mg;
my %key = map { $_->[0] => create_key($server, "'$_->[0]', $_->[1]") } (
	[ reader => q{'acme/payments', scopes => '{invoices:read}'} ],
	[ writer => q{'acme/payments', scopes => '{invoices:*}'} ],
	[ other => q{'acme/website', scopes => '{*}'} ],
	[ limited => q{'acme/website', scopes => '{*}', rate_limit => 1, rate_window => '1 hour'} ],
	[ bound => q{'acme/website', scopes => '{*}', allowed_ips => '{127.0.0.0/8}'} ],
	[ revoked => q{'acme/website', scopes => '{*}'} ]);
$server->safe_psql('postgres', q{SELECT auth.apikey_revoke(id) FROM auth.apikeys WHERE name = 'revoked'});
$server->safe_psql('postgres', 'CREATE ROLE mallory LOGIN; GRANT USAGE ON SCHEMA auth TO mallory');
$key{minted} = $server->safe_psql('postgres', q{SELECT auth.apikey_create('mine', scopes => '{*}')}, extra_params => [ '-U', 'mallory' ]);

my $client = $server->background_psql('postgres', on_error_stop => 0, extra_params => [ '-U', 'authenticator' ]);
$client->query_safe('\set VERBOSITY verbose');
# PostgREST prepares its statements.
$client->query_safe(q{PREPARE settings AS select set_config('search_path', $1, true), set_config('role', $2, true),
	set_config('request.jwt.claims', $3, true), set_config('request.method', $4, true), set_config('request.path', $5, true),
	set_config('request.headers', $6, true), set_config('request.cookies', $7, true)});
$client->query_safe(q{SET plan_cache_mode = force_generic_plan});
my %prepared;

# One request; the body of the answer, or the error as PostgREST would tell it.
sub send_request
{
	my ($method, $headers) = @_;
	my $access = $method eq 'GET' ? 'READ ONLY' : 'READ WRITE';
	my $query = $method eq 'GET'
		? q{WITH pgrst_source AS ( SELECT "api"."invoice".* FROM "api"."invoice" ) }
		: q{WITH pgrst_source AS (INSERT INTO "api"."invoice"("amount", "customer") SELECT "pgrst_body"."amount", "pgrst_body"."customer"
			FROM json_to_recordset('[{"customer":"Barbara","amount":5}]') AS pgrst_body("amount" numeric(12,2), "customer" text) RETURNING "api"."invoice".*) };
	my $select = qq{$query SELECT null::bigint AS total_result_set, pg_catalog.count(_postgrest_t) AS page_total,
		coalesce(json_agg(_postgrest_t ORDER BY id)::jsonb #>> '{}', '[]') AS body,
		nullif(current_setting('response.headers', true), '') AS response_headers,
		nullif(current_setting('response.status', true), '') AS response_status FROM ( SELECT * FROM pgrst_source ) _postgrest_t};
	my $prepare = $prepared{$method}++ ? '' : "PREPARE $method AS $select;";
	my ($out) = $client->query(qq{BEGIN ISOLATION LEVEL READ COMMITTED $access;
		EXECUTE settings('"api", "public"', '$conf{'db-anon-role'}', '{"role":"web"}', '$method', '/invoice', '$headers', '{}') \\g /dev/null
		select $conf{'db-pre-request'}() \\g /dev/null
		$prepare
		EXECUTE $method;
		COMMIT;});
	my ($error) = $client->{stderr} =~ /ERROR:  (?:(\w{5}:.*\n(?:DETAIL:.*)?))/;
	$client->{stderr} = '';
	return $error =~ s/\nDETAIL: +/ /r if defined $error;
	return join ',', $out =~ /"customer": "(\w+)"/g;
}
sub get { return send_request('GET', $_[0]) }
sub get_as { return get(qq({"host":"localhost:3000","x-api-key":"$_[0]"})) }

# Before this connection has had a header.
is(get(''), '', 'no headers at all: nobody, and no error');
is(get('{"host":"localhost:3000"}'), '', 'no key');
is(get_as($key{reader}), 'Ada,Grace', 'a key opens the rows of its project');
is($client->query_safe(q{SELECT current_setting('request.headers', true) = '', session_user}), 't|authenticator', 'what the next request finds');
is(get(''), '', 'and that is nobody');
is(get_as($key{other}), 'Linus', 'another key, the same plan');
is(get_as($key{minted}), 'PT401: API key refused wrong_project', "a user's own key with every scope");
is(get_as($key{revoked}), 'PT401: API key refused revoked', 'revoked');
is(get_as('nonsense'), 'PT401: API key refused malformed', 'nonsense');
is(get_as($key{bound}), 'PT401: API key refused ip_denied', 'bound to an address, which PostgREST does not tell');
is(get_as($key{limited}), 'Linus', 'a limited key');
is(get_as($key{limited}), 'PT429: API key refused rate_limited', 'over its limit');
is(get(qq({"authorization":"Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"})), '', 'a JWT');
is(get('{"x-api-key":"' . 'x' x 100_000 . '"}'), 'PT401: API key refused malformed', 'a header of 100 kB');
is(get('{"cookie":"' . 'x' x 100_000 . qq(","x-api-key":"$key{reader}"})), 'Ada,Grace', 'another header of 100 kB');

sub post_as { return send_request('POST', qq({"x-api-key":"$_[0]"})) }
like(post_as($key{reader}), qr/^42501: /, 'a reader does not write');
like(send_request('POST', '{}'), qr/^(42501|23502): /, 'nor does nobody');
is(post_as($key{writer}), 'Barbara', 'a writer does');
is(get_as($key{reader}), 'Ada,Grace,Barbara', 'into its own project');

$server->safe_psql('postgres', q{SELECT auth.apikey_revoke(id) FROM auth.apikeys WHERE name = 'reader'});
is(get_as($key{reader}), 'PT401: API key refused revoked', 'revoked while it is in use');
$client->quit;

# A refusal does not log the statement, where the key may stand.
$server->psql('postgres', "SELECT auth.apikey_authenticate('$key{writer}', project => 'acme', scopes => '{users:read}')");
my $log = slurp_file($server->logfile);
like($log, qr/API key refused.*\n.*DETAIL:  insufficient_scope/, 'a refusal is logged');
is(scalar(() = $log =~ /\Q$_\E/g), 0, 'without a key') for map { substr $_, -39 } values %key;
$server->stop;
done_testing();
