# A worker is ended, and killed, in each of its stages while there is work for
# all of them: nothing is counted or spent twice, what is left over is done by the
# next one, and an end by pg_terminate_backend() loses nothing at all.
# Each stage is met by stopping the worker again and again and asking what it does.
use strict;
use warnings;
use IPC::Open2;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep ualarm);

my $patience = $PostgreSQL::Test::Utils::timeout_default;
my @stages = ('leasing credits', 'writing the use of keys', 'writing the events of refusals',
	'writing the events of limits', 'writing the history of use', 'summing the history of use', 'forgetting deleted keys',
	'writing digests', 'revoking the keys of dropped roles', 'settling revocations', 'telling of keys that expire',
	'revoking idle keys', 'removing events that are too old', 'giving back credits', 'watching the other servers',
	'counting the keys of peppers');
# A kill ends the whole server, so the short form has those that have most to lose.
my @killed = $ENV{APIKEY_TEST_LONG} ? @stages : ('leasing credits', 'writing the use of keys', 'writing digests', 'giving back credits');
my $lease = 100;
my $granted = 10_000_000;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $file = "$dir/peppers";
sub write_peppers
{
	open my $out, '>', "$file.new" or die $!;
	print $out map { "$_\n" } @_;
	close $out;
	chmod 0600, "$file.new";
	rename "$file.new", $file or die $!;
}
write_peppers('o' x 40);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
apikey.credits_lease = $lease
apikey.pepper_file = '$file'
apikey.event_retention = '1min'
autovacuum = off
restart_after_crash = on
});
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub flush { return sql('SELECT apikey_flush()') }

# Work for each stage.
sql(q{
	CREATE EXTENSION apikey CASCADE;
	CREATE TABLE seen (key text, code text);
	CREATE TABLE k (i int, key text);
	CREATE SEQUENCE n;
	SELECT apikey_organization_create('org');
	SELECT apikey_project_create('org/idle');
	UPDATE apikey_projects SET max_idle = '1 day' WHERE path = 'org/idle';
	SELECT apikey_create('idle', project => 'org/idle')});
sql(q{INSERT INTO k SELECT i, apikey_create('old-' || i) FROM generate_series(1, 20000) i});
my %key = map { $_ => sql("SELECT apikey_create('$_')") } qw(used metered limited);
sql("UPDATE apikeys SET credits = $granted WHERE name = 'metered'");
sql("SELECT apikey_limit_set('requests', 1000000, period => '1 day', key => apikey_id('$key{limited}'), kind => 'quota')");
write_peppers('n' x 40, 'o' x 40);
$node->reload;
$node->poll_query_until('postgres', 'SELECT count(*) = 2 FROM apikey_peppers WHERE place IS NOT NULL') or die 'no second pepper';
sql(qq{
	CREATE FUNCTION see(key text, cost integer) RETURNS void LANGUAGE sql AS
		'INSERT INTO seen SELECT \$1, code FROM apikey_verify(\$1, cost => \$2)';
	CREATE PROCEDURE work() LANGUAGE plpgsql AS \$\$
	DECLARE
		number bigint := nextval('n');
		made text;
	BEGIN
		PERFORM see('$key{used}', 1), see('$key{metered}', 30), see('$key{limited}', 1);
		COMMIT;
		PERFORM FROM apikey_verify('$key{used}', '{nothing}');
		PERFORM apikey_check(key) FROM k WHERE i = 1 + number % 20000;
		made := apikey_create('made-' || number, expires_at => now() + '1 hour', credits => 1000);
		PERFORM apikey_limit_set('requests', 2, period => '1 day', key => apikey_id(made), kind => 'quota');
		PERFORM FROM generate_series(1, 3) CROSS JOIN LATERAL apikey_verify(made);
		COMMIT;
		PERFORM apikey_revoke(apikey_id(made));
		COMMIT;
		IF number % 2 = 0 THEN
			PERFORM apikey_delete(apikey_id(made), 'made-' || number);
		END IF;
		COMMIT;
		IF number % 10 = 0 THEN
			EXECUTE format('CREATE ROLE r%s', number);
			EXECUTE format('SET ROLE r%s', number);
			PERFORM apikey_create('mine');
			RESET ROLE;
			EXECUTE format('DROP ROLE r%s', number);
		END IF;
	END\$\$});
append_to_file("$dir/work.sql", "CALL work();\n");
append_to_file("$dir/flush.sql", "SELECT apikey_flush();\n");

sub start_work
{
	return map {
		my ($name, @more) = @$_;
		IPC::Run::start([ 'pgbench', '-n', '-T', 3600, @more, '-f', "$dir/$name.sql", $node->connstr('postgres') ], '>&', "$dir/$name.out")
	} [ 'work', '-c', 2 ], ['flush'];
}
sub stop_work { for (@_) { $_->signal('TERM'); eval { $_->finish } } }

# Lets a worker go on for a moment at a time until it is in this stage, and ends it
# there.  A stopped one may have what the question needs, so it goes on after a while.
sub end_in
{
	my ($stage, $signal) = @_;
	my $end = time + $patience;
	my $asker = open2(my $answers, my $questions, 'psql', '-XAtq', '-d', $node->connstr('postgres'));
	my $ask = sub {
		print $questions "SELECT coalesce((SELECT $_[0] FROM pg_stat_activity WHERE backend_type = 'apikey worker' AND state = 'active' $_[1] LIMIT 1), '');\n";
		$questions->flush;
		my $line = <$answers> // die 'no answer';
		chomp $line;
		return $line;
	};
	my ($pid, $found);
	local $SIG{ALRM} = sub { kill 'CONT', $pid };
	while (!$found && time < $end)
	{
		if (!$pid || !kill('STOP', $pid))
		{
			$pid = $ask->('pid::text', '');
			next;
		}
		ualarm(300_000);
		my $query = $ask->('query', "AND pid = $pid");
		ualarm(0);
		$found = $query eq "apikey: $stage";
		kill $signal, $pid if $found;
		kill 'CONT', $pid;
		# It has nothing to do, or has ended.
		$pid = 0 if $query eq '';
		usleep(50);
	}
	close $questions;
	waitpid $asker, 0;
	return $found;
}

sub sure { return sql("SELECT count(*) FROM seen WHERE key = '$key{$_[0]}' AND code = 'valid'") }
sub uses { return sql("SELECT use_count FROM apikeys WHERE name = '$_[0]'") }
sub left { return sql("SELECT credits FROM apikeys WHERE name = 'metered'") }
# What stages have left over is done by the next worker.
sub all_done
{
	my ($when) = @_;
	flush();
	is(sql(q{SELECT count(*) FROM apikey_key k WHERE k.name = 'mine' AND revoked_at IS NULL}), 0, "$when: no key of a dropped role is left");
	is(sql(q{SELECT count(*) FROM apikey_revocation}), 0, "$when: all revocations are settled");
	is(sql(q{SELECT count(*) FROM apikey_verify((SELECT key FROM k LIMIT 1)) WHERE code = 'valid'}), 1, "$when: keys verify");
}

note 'Ended by TERM: nothing is lost.';
{
	my @work = start_work();
	ok(end_in($_, 'TERM'), "ended: $_") for @stages;
	stop_work(@work);
	all_done('ended');
	for my $name (qw(used limited))
	{
		# Each work refuses the first once more, which is no use.
		is(uses($name), sure($name), "ended: each use of $name is counted once");
	}
	is(left(), $granted - 30 * sure('metered'), 'ended: each credit is spent once');
	is(sql("SELECT amount - remaining FROM apikey_limits WHERE key_id = apikey_id('$key{limited}')"), sure('limited'), 'ended: and each unit of a limit');
}

note 'Killed: what was in memory alone is lost.';
{
	my $kills = 0;
	my $before = uses('used');
	for my $stage (@killed)
	{
		my @work = start_work();
		$kills += ok(end_in($stage, 'KILL'), "killed: $stage");
		usleep(200_000);
		stop_work(@work);
		ok($node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()'), "killed: $stage: the server is back");
		# What no client was told may have been counted, and is as a use.
		all_done("killed: $stage");
	}
	# Each crash ends two that had not written down what they were told.
	cmp_ok(uses('used'), '<=', sure('used') + 2 * $kills, 'killed: no use is counted twice');
	cmp_ok(uses('used'), '>=', $before, 'killed: nor lost once it is in the table');
	cmp_ok(left(), '<=', $granted - 30 * sure('metered'), 'killed: no credit is spent twice');
	cmp_ok(left(), '>=', $granted - 30 * sure('metered') - $kills * ($lease + 60), 'killed: a lease each');
}
is(sql('SELECT count(*) FROM apikey_health() WHERE severity = \'critical\''), 0, 'all is well');
$node->stop;
done_testing();
