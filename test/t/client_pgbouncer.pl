# PgBouncer in transaction mode: two clients over one server connection never
# see each other's identity, whatever either does and however it ends.
use strict;
use warnings;
use lib 'test';
use Example;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

my $pgbouncer = find_program('pgbouncer', 'pgbouncer');
my $server = protected_server('max_prepared_transactions = 2');
my $ada = create_key($server, q{'ada', 'acme/payments', scopes => '{invoices:*}'});
my $linus = create_key($server, q{'linus', 'acme/website', scopes => '{invoices:*}'});

my $dir = PostgreSQL::Test::Utils::tempdir();
append_to_file("$dir/users", qq{"web" ""\n"admin" ""\n});
append_to_file("$dir/pgbouncer.ini", qq{
[databases]
postgres = host=$ENV{PGHOST} port=$ENV{PGPORT} dbname=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = \@PORT\@
unix_socket_dir =
auth_type = trust
auth_file = $dir/users
admin_users = admin
pool_mode = transaction
default_pool_size = 1
});
my $pool = start_program($dir, 'sh', '-c', qq{sed -i "s/\@PORT\@/\$PORT/" pgbouncer.ini && exec "$pgbouncer" pgbouncer.ini});
sub client
{
	local @$server{qw(_host _port)} = ('127.0.0.1', $pool->{port});
	return $server->background_psql('postgres', on_error_stop => 0, extra_params => [ '-U', 'web' ]);
}

my $authenticate_ada = "SELECT auth.apikey_authenticate('$ada', project => 'acme') IS NOT NULL";
my $authenticate_linus = "SELECT auth.apikey_authenticate('$linus', project => 'acme') IS NOT NULL";
my $who = q{SELECT coalesce(auth.apikey_current_project(), 'nobody'), string_agg(customer, ',' ORDER BY id), pg_backend_pid() FROM api.invoice};
# Who a client is, what it sees, and whether it is on the server connection
# where the last one was.
my $last_pid = 0;
sub who_is
{
	my ($client) = @_;
	my ($project, $rows, $pid) = split /\|/, $client->query_safe($who);
	my $where = $pid == $last_pid ? 'same' : 'new';
	$last_pid = $pid;
	return "$project: $rows, $where connection";
}
my $nobody = 'nobody: , same connection';

my $one = client();
my $two = client();
who_is($one);
is(who_is($two), $nobody, 'both over one connection');

# However the transaction ends.
my @endings = (
	[ 'COMMIT', 'a commit' ],
	[ 'ROLLBACK', 'a rollback' ],
	[ 'SAVEPOINT a; SELECT 1; RELEASE a; COMMIT', 'a savepoint and a commit' ],
	[ 'SAVEPOINT a; SELECT 1 / 0; ROLLBACK TO a; COMMIT', 'an error rolled back to a savepoint' ],
	[ "PREPARE TRANSACTION 'one'", 'PREPARE TRANSACTION' ],
	[ 'SELECT 1 / 0; ROLLBACK', 'an error' ],
	[ "SELECT auth.apikey_authenticate('nonsense'); COMMIT", 'a refusal' ],
	[ 'SELECT 1 / 0; COMMIT', 'a commit that rolls back' ]);
for my $ending (@endings)
{
	my ($sql, $name) = @$ending;
	$one->query("BEGIN; $authenticate_ada;");
	like(who_is($one), qr/^acme\/payments: Ada,Grace/, "authenticated, before $name");
	$one->query("$sql;");
	$one->{stderr} = '';
	is(who_is($two), $nobody, "another client after $name");
	is(who_is($one), $nobody, "the client itself after $name");
}
$server->safe_psql('postgres', "COMMIT PREPARED 'one'");
is(who_is($two), $nobody, 'after COMMIT PREPARED');
$one->query_safe("$authenticate_ada;");
is(who_is($two), $nobody, 'after a statement on its own');

# The other waits for the connection, and is itself.
$one->query_safe("BEGIN; $authenticate_ada;");
$two->query_until(qr/asking/, "\\echo asking\nBEGIN;\n$authenticate_linus;\n");
sub waiting
{
	my ($count) = @_;
	my $until = time + $PostgreSQL::Test::Utils::timeout_default;
	my ($out, $pools);
	do
	{
		IPC::Run::run([ 'psql', '-XAtq', '-h', '127.0.0.1', '-p', $pool->{port}, '-d', 'pgbouncer', '-U', 'admin', '-c', 'SHOW POOLS' ],
			'>', \$out);
		($pools) = $out =~ /^postgres\|web\|\d+\|(\d+)/m;
	} until ($pools // -1) == $count || time > $until;
	return $pools;
}
is(waiting(1), 1, 'the other waits');
like(who_is($one), qr/^acme\/payments: Ada,Grace, same/, 'the first is itself');
$one->query_safe('COMMIT');
$two->query('');					# what it has waited for
is(who_is($two), 'acme/website: Linus, same connection', 'then the other is');
$two->query_safe('COMMIT');
is(who_is($one), $nobody, 'and the first is nobody');

# A client that is gone in the middle.
$one->query_safe("BEGIN; $authenticate_ada;");
$one->quit;
like(who_is($two), qr/^nobody: ,/, 'after a client has left');
$one = client();
$one->query_safe("BEGIN; $authenticate_ada;");
$one->{run}->kill_kill;
like(who_is($two), qr/^nobody: ,/, 'after a client was killed');
$one = client();
$one->query_safe("BEGIN; $authenticate_ada;");
$server->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'web'});
like(who_is($two), qr/^nobody: ,/, 'after the server process was ended');
$one->{run}->kill_kill;

# Many at once: each transaction is its own key, and what is outside of one
# is nobody; a wrong one divides by zero, which ends pgbench's client.
append_to_file("$dir/keyed.sql", join "\n", map { qq{BEGIN;
SELECT auth.apikey_authenticate('$_->[0]', project => 'acme');
SELECT 1 / (auth.apikey_current_project() = '$_->[1]')::int, 1 / (count(*) = $_->[2])::int FROM api.invoice;
$_->[3];} } [ $ada, 'acme/payments', 2, 'COMMIT' ], [ $linus, 'acme/website', 1, 'ROLLBACK' ]);
append_to_file("$dir/nobody.sql", 'SELECT 1 / (auth.apikey_current_key() IS NULL)::int, 1 / (count(*) = 0)::int FROM api.invoice;');
$server->command_ok([ 'pgbench', '-n', '-h', '127.0.0.1', '-p', $pool->{port}, '-U', 'web', '-c', '8', '-t', '200',
	'-f', "$dir/keyed.sql", '-f', "$dir/nobody.sql", 'postgres' ], 'eight clients over one connection');

$two->quit;
stop_program($pool);
$server->stop;
done_testing();
