# examples/postgraphile: the same schema as GraphQL.
use strict;
use warnings;
use lib 'test';
use Example;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $nodejs = find_program('node', 'nodejs');
my $dir = install_packages('examples/postgraphile', '--omit=dev');
my $server = protected_server("apikey.request_project = 'acme'");
my $reader = create_key($server, q{'reader', 'acme/payments', scopes => '{invoices:read}'});
my $writer = create_key($server, q{'writer', 'acme/payments', scopes => '{invoices:*}'});
my $other = create_key($server, q{'other', 'acme/website', scopes => '{*}'});
my $limited = create_key($server, q{'limited', 'acme/website', scopes => '{*}', rate_limit => 1, rate_window => '1 hour'});
$server->safe_psql('postgres', 'CREATE ROLE mallory LOGIN; GRANT USAGE ON SCHEMA auth TO mallory');
my $minted = $server->safe_psql('postgres', q{SELECT auth.apikey_create('mine', scopes => '{*}')}, extra_params => [ '-U', 'mallory' ]);
my $api = start_program($dir, $nodejs, 'server.js');

# What a query gives, or the status and error.
sub graphql
{
	my ($headers, $query) = @_;
	my $response = request($api, 'POST', '/graphql', { 'content-type' => 'application/json', %$headers },
		encode_json({ query => $query }));
	my $body = json_body($response);
	return $body->{errors} ? "$response->{status} $body->{errors}[0]{message}" : $body->{data};
}
sub customers
{
	my $data = graphql($_[0], '{ allInvoices(orderBy: ID_ASC) { nodes { customer } } }');
	return ref $data ? join(',', map { $_->{customer} } @{ $data->{allInvoices}{nodes} }) : $data;
}

is(customers({ 'x-api-key' => $reader }), 'Ada,Grace', 'a key opens the rows of its project');
is(customers({ authorization => "Bearer $other" }), 'Linus', 'as a Bearer token, on the same connections');
is(customers({}), '', 'without a key there is no row');
is(customers({ 'x-api-key' => '' }), '', 'nor with an empty one');
is(customers({ authorization => 'Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln' }), '', 'nor with a JWT');
is(customers({ 'x-api-key' => 'nonsense' }), '401 malformed', 'nonsense');
is(customers({ 'x-api-key' => [ $reader, $reader ] }), '401 malformed', 'two headers');
is(customers({ 'x-api-key' => $minted }), '401 wrong_project', "a user's own key with every scope");
is(customers({ 'x-api-key' => $limited }), 'Linus', 'a limited key');
is(customers({ 'x-api-key' => $limited }), '429 rate_limited', 'over its limit');
is(customers({ 'x-api-key' => $reader }), 'Ada,Grace', 'each request anew');

my $create = q<mutation { createInvoice(input: {invoice: {customer: "Barbara", amount: "5"}}) { invoice { project } } }>;
like(graphql({ 'x-api-key' => $reader }, $create), qr/row-level security/, 'a reader does not write');
like(graphql({}, $create), qr/null value|row-level security/, 'nor does nobody');
is_deeply(graphql({ 'x-api-key' => $writer }, $create), { createInvoice => { invoice => { project => 'acme/payments' } } },
	'a writer does, into its own project');
$server->safe_psql('postgres', q{SELECT auth.apikey_revoke(id) FROM auth.apikeys WHERE name = 'reader'});
is(customers({ 'x-api-key' => $reader }), '401 revoked', 'revoked');

# What an extension owns is shown only when asked for, of whatever schema.
sub shown
{
	my ($options) = @_;
	my $out;
	append_to_file("$dir/shown.mjs", qq{
		import { createPostGraphileSchema } from 'postgraphile';
		import { printSchema } from 'graphql';
		import pg from 'pg';
		import { extension } from './extension.js';
		const pool = new pg.Pool({ user: 'web' });
		console.log(printSchema(await createPostGraphileSchema(pool, ['api', 'auth'], { ignoreRBAC: false, $options })));
		await pool.end();
	});
	IPC::Run::run([ $nodejs, 'shown.mjs' ], '<', \undef, '>&', \$out, init => sub { chdir $dir or die $! }) or diag($out);
	unlink "$dir/shown.mjs";
	return join ' ', map { $out =~ /^  $_\b/m ? $_ : () } qw(allInvoices allApikeys allApikeyDigests apikeyCreate);
}
is(shown(''), 'allInvoices', 'PostGraphile hides what belongs to an extension');
is(shown('...extension'), 'allInvoices allApikeys apikeyCreate', 'and shows it when asked to');

my $output = stop_program($api);
is(scalar(() = $output =~ /\Q$_\E/g), 0, 'it writes no key') for map { substr $_, -39 } $reader, $writer, $limited, $minted;
$server->stop;
done_testing();
