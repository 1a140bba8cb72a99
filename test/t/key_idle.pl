# Keys that nobody uses: revoked where their project has a max_idle, told of
# before, and not while uses may have happened that are not known here, or were
# not kept.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
wal_level = logical");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE');
sub sql { return $node->safe_psql('postgres', @_) }
sql(q{SELECT apikey_organization_create('acme'); SELECT apikey_project_create('acme/' || p) FROM unnest(ARRAY['old', 'short', 'none', 'many']) p});

# Makes everything of a project older, as if the clock had moved; what memory
# knows of uses that are flushed is forgotten by a restart.  What more is to be
# so before the worker sees it is a statement of the same transaction.
sub age
{
	my ($path, $days, $restart, $more) = @_;
	$node->restart if $restart;
	my $project = "(SELECT id FROM apikey_project WHERE path = '$path')";
	sql("BEGIN; UPDATE apikey_project SET max_idle_at = max_idle_at - interval '$days days' WHERE path = '$path';
		UPDATE apikey_usage SET last_used_at = last_used_at - interval '$days days', idle_told = idle_told - interval '$days days'
			WHERE id IN (SELECT id FROM apikey_key WHERE project = $project);
		UPDATE apikey_key SET created_at = created_at - interval '$days days', starts_at = starts_at - interval '$days days',
			enabled_at = enabled_at - interval '$days days' WHERE project = $project;
		" . ($more // '') . "; COMMIT");
}
sub flush { sql('SELECT apikey_flush()') }
sub names { my ($where, $path) = @_; return sql("SELECT string_agg(name, ' ' ORDER BY name) FROM apikeys WHERE project = 'acme/$path' AND $where") }
sub revoked { return names(q{revoke_reason = 'idle'}, @_) }
sub told { my ($path) = @_; return sql("SELECT string_agg(key_name, ' ' ORDER BY id) FROM apikey_events WHERE event = 'idle' AND project = 'acme/$path'") }
sub key { my ($name, $path, $more) = @_; return sql("SELECT apikey_create('$name', 'acme/$path'" . ($more // '') . ')') }
sub use_key { my ($key, $path) = @_; is(sql("SELECT code FROM apikey_verify('$key', project => 'acme/$path')"), 'valid', 'a use') }

# A long one: told 7 days before, once, and revoked then.
my %keys = map { $_ => key($_, 'old') } qw(idle used enabled disabled later);
sql("UPDATE apikeys SET starts_at = now() + interval '40 days' WHERE name = 'later'");
sql("SELECT apikey_disable(id) FROM apikeys WHERE name IN ('enabled', 'disabled')");
key('idle', 'none');
use_key($keys{used}, 'old');
flush();
sql("UPDATE apikey_projects SET max_idle = '30 days' WHERE path = 'acme/old'");
age('acme/old', 22);
sql("SELECT apikey_enable(id) FROM apikeys WHERE name = 'enabled'");
flush();
is(told('old'), '', 'nobody is told with 8 days left');
age('acme/old', 2);
use_key($keys{used}, 'old');
flush();
is(told('old'), 'idle disabled', 'with 6 days left: of those that are not used') or
	diag sql("SELECT key_name, detail FROM apikey_events WHERE event = 'idle'");
like(sql("SELECT detail FROM apikey_events WHERE event = 'idle' ORDER BY id LIMIT 1"), qr/^\{"stops_at": "[^"]+", "idle_since": "[^"]+"\}$/, 'since when and until when');
is(sql("SELECT (detail->>'stops_at')::timestamptz - (detail->>'idle_since')::timestamptz FROM apikey_events WHERE event = 'idle' ORDER BY id LIMIT 1"),
	'30 days', 'max_idle apart');
flush();
is(told('old'), 'idle disabled', 'once');
is(revoked('old'), '', 'none is revoked yet');
age('acme/old', 7, 1);
flush();
is(revoked('old'), 'disabled idle', 'they are when their time has come');
is(sql("SELECT detail->>'reason' FROM apikey_events WHERE event = 'revoked' AND key_name = 'idle'"), 'idle', 'as the event says');
is(sql("SELECT code FROM apikey_verify('$keys{idle}', project => 'acme/old')"), 'revoked', 'and verification');
age('acme/old', 19);
flush();
is(told('old'), 'idle disabled used enabled', 'those that were used or enabled later are told of later') or
	diag sql("SELECT key_name, detail FROM apikey_events WHERE event = 'idle'");
use_key($keys{used}, 'old');
age('acme/old', 5);
flush();
is(revoked('old'), 'disabled enabled idle', 'a use that is not flushed yet counts');
is(names(q{status <> 'revoked' AND name = 'later'}, 'old'), 'later', 'and what starts later is idle from then');
is(revoked('none'), '', 'nothing in a project without it');

# A key and what it has replaced end together: a use of either is one of both.
sql("UPDATE apikey_projects SET max_idle = '10 days' WHERE path = 'acme/short'");
my $first = key('pair', 'short');
my $second = sql("SELECT apikey_rotate(apikey_id('$first'), '60 days')");
age('acme/short', 9);
use_key($first, 'short');
flush();
age('acme/short', 2);
flush();
is(sql("SELECT code FROM apikey_verify('$second', project => 'acme/short', cost => 0)"), 'valid', 'a successor lives while what it has replaced is used');
is(told('short'), '', 'where it is short nobody is told before');
age('acme/short', 9, 1);
flush();
is(sql("SELECT string_agg(revoke_reason, ' ') FROM apikeys WHERE project = 'acme/short'"), 'idle idle', 'both end when neither is');

# What somebody has locked is left for later, and waits for nobody.
key('locked', 'short');
key('free', 'short');
age('acme/short', 11);
my $holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT FROM apikey_key WHERE name = 'locked' FOR UPDATE");
flush();
is(names(q{revoke_reason = 'idle' AND name IN ('locked', 'free')}, 'short'), 'free', 'a key that is locked is left');
$holder->query_safe('COMMIT');
flush();
is(names(q{revoke_reason = 'idle' AND name IN ('locked', 'free')}, 'short'), 'free locked', 'for the next time');
key('kept', 'short');
age('acme/short', 11);
$holder->query_safe("BEGIN; UPDATE apikey_projects SET max_idle = NULL WHERE path = 'acme/short'");
flush();
$holder->query_safe('COMMIT');
flush();
is(names(q{status = 'active'}, 'short'), 'kept', 'whoever is just giving up the setting is not overtaken');

# Many, in more than one step, beside one that is young.
sql(q{SELECT count(apikey_create('k' || i, 'acme/many')) FROM generate_series(1, 2500) i});
sql("UPDATE apikey_projects SET max_idle = '1 hour' WHERE path = 'acme/many'");
age('acme/many', 1);
sql(q{UPDATE apikey_key SET created_at = (SELECT min(created_at) FROM apikey_key WHERE name ~ '^k[0-9]+$') WHERE name ~ '^k[0-9]+$'});
key('young', 'many');
flush();
is(names(q{status = 'active'}, 'many'), 'young', 'all but the young one');

# A project that was restored may have one that no time can be added to: that is
# told, and holds up none that was made after it.
sql("SELECT apikey_project_create('acme/$_')") for 'odd', 'behind-odd';
key('idle', 'behind-odd');
sql("UPDATE apikey_projects SET max_idle = '1 hour' WHERE path IN ('acme/odd', 'acme/behind-odd')");
sql("UPDATE apikey_project SET max_idle = '-1000000 months 30000010 days' WHERE path = 'acme/odd'");
age('acme/behind-odd', 1);
my $told = -s $node->logfile;
flush();
is(revoked('behind-odd'), 'idle', 'a key of the next project');
like(slurp_file($node->logfile, $told), qr{WARNING:  timestamp out of range.*CONTEXT:  project "acme/odd"\n\s*apikey worker: revoking idle keys}s, 'and the log tells why none of the other');
sql("UPDATE apikey_project SET max_idle = NULL WHERE path = 'acme/odd'");

# The worker comes by itself: when the setting changes, and when it is time.
$node->append_conf('postgresql.conf', "apikey.flush_interval = '100ms'");
$node->reload;
sql("UPDATE apikey_projects SET max_idle = '2 seconds' WHERE path = 'acme/many'");
$node->poll_query_until('postgres', "SELECT revoke_reason = 'idle' FROM apikeys WHERE name = 'young'") or die 'it is not revoked';
my $now = key('now', 'many');
$node->poll_query_until('postgres', "SELECT revoke_reason = 'idle' FROM apikeys WHERE name = 'now'") or die 'it is not revoked';
pass('the worker comes by itself');
cmp_ok(sql("SELECT revoked_at - created_at >= interval '2 seconds' FROM apikeys WHERE name = 'now'"), 'eq', 't', 'and not too early');

# A setting that changes while the worker goes through many projects, and has
# that one behind it, is seen in its next pass.
sql(q{SELECT count(apikey_project_create('acme/p' || i)) FROM generate_series(1, 5000) i});
sql("UPDATE apikey_projects SET max_idle = '1 hour' WHERE path LIKE 'acme/p%'");
my $behind = sql("SELECT path FROM apikey_project WHERE path LIKE 'acme/p%' ORDER BY id LIMIT 1") =~ s{^acme/}{}r;
for my $round (1 .. 8)
{
	key("behind-$round", $behind);
	sql("UPDATE apikey_projects SET max_idle = '1 hour' WHERE path = 'acme/$behind'");
	usleep(90_000 + 20_000 * $round);
	sql("UPDATE apikey_projects SET max_idle = '1 second' WHERE path = 'acme/$behind'");
	$node->poll_query_until('postgres', "SELECT revoke_reason = 'idle' FROM apikeys WHERE name = 'behind-$round'") or die 'it is not revoked';
}
pass('no change is passed by');
sql("UPDATE apikey_projects SET max_idle = NULL WHERE path LIKE 'acme/p%'");

# A standby that is connected and tells of no use: nothing is revoked, nor as
# soon as it goes.
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
my $there = key('there', 'many');
my $offset = -s $node->logfile;
$node->poll_query_until('postgres', "SELECT max_idle_at > k.created_at + interval '3 seconds' FROM apikey_projects p, apikeys k WHERE k.name = 'there' AND p.path = k.project")
	or die 'max_idle_at does not move on';
is(sql("SELECT status FROM apikeys WHERE name = 'there'"), 'active', 'not while a standby is connected');
is($standby->safe_psql('postgres', "SELECT code FROM apikey_verify('$there', project => 'acme/many')"), 'valid', 'on which it is used');
ok($node->log_contains('no API key is revoked as idle while a server is connected', $offset), 'and the log says so') if $node->can('log_contains');
$standby->stop;
my $gone = sql("SELECT max_idle_at FROM apikey_projects WHERE path = 'acme/many'");
$node->poll_query_until('postgres', "SELECT revoke_reason = 'idle' FROM apikeys WHERE name = 'there'") or die 'it is not revoked';
cmp_ok(sql("SELECT revoked_at - '$gone' >= interval '2 seconds' FROM apikeys WHERE name = 'there'"), 'eq', 't', 'afterwards, from when it was seen last');

# A server that has joined is waited for until it has reported since.
sql(q{INSERT INTO apikey_server (id, name, kind, version, token, epoch, sequence, first_seen_at, seen_at, last_report_at, uses)
	VALUES (gen_random_uuid(), 'far', 'standby', '0.2.0', gen_random_uuid(), 1, 1, now() - interval '1 year', now(), now() - interval '1 hour', 0)});
sql("UPDATE apikey_projects SET max_idle = '30 minutes' WHERE path = 'acme/many'");
my ($early, $late) = map { key($_, 'many') } qw(early late);
age('acme/many', 1, 0, "UPDATE apikey_key SET created_at = now() - interval '90 minutes', enabled_at = NULL WHERE name = 'late'");
flush();
is(names(q{revoke_reason = 'idle' AND name IN ('early', 'late')}, 'many'), 'early', 'a key that was idle for too long before its last report');
sql("UPDATE apikey_server SET last_report_at = now(); SELECT apikey_flush()");
is(names(q{revoke_reason = 'idle' AND name IN ('early', 'late')}, 'many'), 'early late', 'and another when it has reported again');
sql("DELETE FROM apikey_server WHERE name = 'far'; UPDATE apikey_projects SET max_idle = '2 seconds' WHERE path = 'acme/many'");

# What only takes the WAL verifies nothing.
my $wal = PostgreSQL::Test::Utils::tempdir();
my $receiver = IPC::Run::start([ 'pg_receivewal', '-D', $wal, '-d', $node->connstr('postgres'), '--synchronous', '--no-loop', '-s', 1 ], '<', \undef, '>', \my $out, '2>', \my $err);
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming' AND write_lsn IS NOT NULL AND replay_lsn IS NULL}) or die "no receiver: $err";
key('archived', 'many');
$node->poll_query_until('postgres', "SELECT revoke_reason = 'idle' FROM apikeys WHERE name = 'archived'") or die 'it is not revoked';
pass('pg_receivewal does not count');
$receiver->kill_kill;

# A dump: the uses since it was made are not known.  A server that has not
# reported, and that no dump takes along, holds the worker back meanwhile.
sql(q{INSERT INTO apikey_server (id, name, kind, version, token, epoch, sequence, first_seen_at, seen_at, last_report_at, uses)
	VALUES (gen_random_uuid(), 'silent', 'standby', '0.2.0', gen_random_uuid(), 1, 1, now() - interval '1 year', now(), now() - interval '1 year', 0)});
sql("UPDATE apikey_projects SET max_idle = '1 day'");
key('dumped', 'many');
age('acme/many', 300);
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
sql('BEGIN; LOCK TABLE apikey_project IN SHARE ROW EXCLUSIVE MODE; COMMIT');
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 'dump');
sql('CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('restored') ], 'restore');
$node->safe_psql('restored', 'SELECT apikey_flush()');
is($node->safe_psql('restored', "SELECT status FROM apikeys WHERE name = 'dumped'"), 'active', 'a restored key is idle from now on') or
	diag $node->safe_psql('restored', "SELECT revoked_at, revoke_reason FROM apikeys WHERE name = 'dumped'");
is($node->safe_psql('restored', "SELECT bool_and(max_idle_at > now() - interval '1 hour') FROM apikey_project WHERE max_idle IS NOT NULL"), 't', 'as all of its project');

$holder->quit;
$node->stop;

# Where memory is full of others' limits, a use of a key counts all the same: and
# while a use could not be kept, no key of the database is idle.
$node = PostgreSQL::Test::Cluster->new('full');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'
apikey.max_tracked_keys = 16
apikey.flush_interval = '1h'");
$node->start;
sql(q{CREATE EXTENSION apikey CASCADE; CREATE ROLE greedy; CREATE ROLE victim; CREATE TABLE spent (text text); GRANT ALL ON spent TO PUBLIC;
	SELECT apikey_grant('organizations', 'victim')});
sub as { my ($role, $sql) = @_; return sql("SET ROLE $role; $sql") }
sub fill
{
	my ($role) = @_;
	sql('TRUNCATE spent');
	as($role, q{INSERT INTO spent SELECT apikey_create('spent-' || txid_current() || '-' || i, rate_limit => 1, rate_window => '31 days') FROM generate_series(1, 40) i});
	return as($role, q{SELECT string_agg(code || ' ' || n, ', ' ORDER BY code) FROM (SELECT code, count(*) AS n FROM spent, apikey_verify(text) GROUP BY 1) c});
}
as('victim', q{SELECT apikey_organization_create('acme'); SELECT apikey_project_create('acme/' || p) FROM unnest(ARRAY['served', 'lost', 'idle']) p;
	UPDATE apikey_projects SET max_idle = '30 days'});
my %key = map { $_ => as('victim', "SELECT apikey_create('$_', 'acme/$_')") } 'served', 'lost', 'idle';
flush();
is(fill('greedy'), 'unavailable 24, valid 16', 'one role has all of memory');
age("acme/$_", 29) for 'served', 'idle';
use_key($key{served}, 'served');
sub not_attributed { return sql('SELECT not_attributed FROM apikey_stats') }
my $lost = not_attributed();
is(as('greedy', q{SELECT code FROM apikey_verify(apikey_create('counted'))}), 'valid', 'a use of a personal key');
is(not_attributed(), $lost + 1, 'of the role that has the most is not kept');
fill('greedy');
age("acme/$_", 2) for 'served', 'idle';
flush();
is(revoked('idle'), 'idle', 'who has all of memory keeps no key from being idle by that');
is(names(q{status = 'active' AND use_count = 1}, 'served'), 'served', 'and a use of a key in it counts');

# Of a role that has its share of memory no more uses are kept.
fill('victim') for 1 .. 2;
age('acme/lost', 29);
$lost = not_attributed();
use_key($key{lost}, 'lost');
is(not_attributed(), $lost + 1, 'that is not kept');
age('acme/lost', 2);
flush();
is(names(q{status = 'active' AND use_count = 0}, 'lost'), 'lost', 'keeps the key from being revoked as idle');
$node->restart;
flush();
is(names(q{status = 'active'}, 'lost'), 'lost', 'after a restart, too');
age('acme/lost', 31);
flush();
is(revoked('lost'), 'lost', 'as long as its project has said, from then on');
$node->stop;
done_testing();
