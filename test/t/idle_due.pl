# When a key is idle for too long, at the borders: days, months, what no max_idle
# may be, what is infinite, and when the worker looks again.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'");
$node->start;
sub sql { return $node->safe_psql('postgres', @_) }
sql(q{CREATE EXTENSION apikey CASCADE; SELECT apikey_organization_create('acme')});

# A project with a max_idle that is older than all of its keys, by their names made
# at these times.  All of it is there before the worker sees any.
sub project
{
	my ($path, $max_idle, %made) = @_;
	sql("SELECT apikey_project_create('acme/$path')");
	sql("SELECT apikey_create('$_', 'acme/$path')") for sort keys %made;
	sql(join ';', 'BEGIN', "UPDATE apikey_projects SET max_idle = '1 year' WHERE path = 'acme/$path'",
		"UPDATE apikey_project SET max_idle = '$max_idle', max_idle_at = '2000-01-01' WHERE path = 'acme/$path'",
		(map { "UPDATE apikey_key SET created_at = $made{$_}, enabled_at = NULL WHERE name = '$_' AND project = (SELECT id FROM apikey_project WHERE path = 'acme/$path')" } keys %made), 'COMMIT');
}
sub flush { sql('SELECT apikey_flush()') }
sub revoked { return sql("SELECT string_agg(name, ' ' ORDER BY name) FROM apikeys WHERE project = 'acme/$_[0]' AND revoke_reason = 'idle'") }
sub told { return sql("SELECT string_agg(key_name, ' ' ORDER BY key_name) FROM apikey_events WHERE event = 'idle' AND project = 'acme/$_[0]'") }

# Of what is due, and told of, on both sides of each border.
project('seconds', '1 second', past => q{now() - interval '2 seconds'}, soon => q{now() + interval '1 hour'});
project('fortnight', '14 days', past => q{now() - interval '14 days'}, soon => q{now() - interval '14 days' + interval '1 hour'});
project('longer', '14 days 1 second', past => q{now() - interval '14 days 1 second'},
	told => q{now() - interval '7 days 1 second'}, soon => q{now() - interval '7 days' + interval '1 hour'});
project('month', '1 month', past => q{now() - interval '32 days'}, told => q{now() - interval '25 days'}, soon => q{now() - interval '20 days'});
project('century', '100 years', past => q{now() - interval '100 years 1 day'}, told => q{now() - interval '100 years -6 days'}, soon => q{now()});
flush();
is(revoked('seconds'), 'past', 'a second');
is(revoked('fortnight') . '/' . told('fortnight'), 'past/', 'two weeks, which are not told of');
is(revoked('longer') . '/' . told('longer'), 'past/told', 'a second more, which are');
is(revoked('month') . '/' . told('month'), 'past/told', 'a month');
is(revoked('century') . '/' . told('century'), '/', 'a century, which no setting is old enough for');

# Two that a month takes to the last day of another, where the one that was made
# first is due last.
my $days = sql(q{SELECT (now() AT TIME ZONE 'UTC')::date - date '2025-09-30' + 7});
my $midnight = q{(date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC')};
project('clipped', "1 month $days days",
	first => qq{timestamptz '2025-08-30 00:00 UTC' + (now() - $midnight + interval '1 day') / 2},
	second => qq{timestamptz '2025-08-31 00:00 UTC' + (now() - $midnight) / 2});
flush();
is(told('clipped'), 'second', 'the one that was made first keeps no other waiting');

# What is no max_idle, as a row may have that was restored, ends nothing.
project('negative', '-1 day', key => q{now() - interval '1 year'});
project('shrinking', '1 month -40 days', key => q{now() - interval '1 year'});
my $offset = -s $node->logfile;
flush();
is(revoked('negative') . revoked('shrinking'), '', 'what lies before the time it is counted from');
my $log = slurp_file($node->logfile, $offset);
like($log, qr{WARNING:  a "max_idle" of \Q$_->[1]\E is not positive\s.*CONTEXT:  project "acme/$_->[0]"}, "the log tells: $_->[0]")
	for [ 'negative', '-1 days' ], [ 'shrinking', '1 mon -40 days' ];
sql(q{UPDATE apikey_project SET max_idle = NULL WHERE path IN ('acme/negative', 'acme/shrinking')});

# A time that is infinite is no reason to look at none behind it.
project('infinite', '30 days', ever => q{'-infinity'}, past => q{now() - interval '31 days'});
flush();
is(revoked('infinite'), 'ever past', 'what was made at no time is idle since the setting');

# The server's time zone makes no day shorter: here one that leaves a day out.
my $days_left_out = sql(q{SELECT (extract(doy FROM at - 1) - 1) || '/0,' || (extract(doy FROM at + 100) - 1) || '/0'
	FROM CAST((now() + interval '10 minutes') AT TIME ZONE 'UTC' AS date) at});
$node->append_conf('postgresql.conf', "timezone = 'AAA0BBB-24,$days_left_out'");
$node->restart;
my $leap = q{(date_trunc('day', (now() + interval '10 minutes') AT TIME ZONE 'UTC') - interval '1 day') AT TIME ZONE 'UTC'};
is(sql("SELECT ($leap) - interval '9 minutes' + interval '2 days' - ($leap)"), '23:51:00', 'the zone is one that leaves a day out');
project('zone', '2 days', past => "($leap) - interval '3 days'", soon => "($leap) - interval '9 minutes'");
flush();
is(revoked('zone'), 'past', 'a day has 24 hours');

# A successor that what it has replaced was used after is told of when that is
# 7 days before its end, and not a day later.
$node->append_conf('postgresql.conf', "timezone = 'UTC'\napikey.flush_interval = '100ms'");
$node->restart;
sql(q{UPDATE apikey_project SET max_idle = NULL; SELECT apikey_project_create('acme/pair')});
my $old = sql(q{SELECT apikey_create('pair', 'acme/pair')});
my $new = sql("SELECT apikey_rotate(apikey_id('$old'), '60 days')");
sql(qq{BEGIN; UPDATE apikey_projects SET max_idle = '14 days 5 seconds' WHERE path = 'acme/pair';
	UPDATE apikey_project SET max_idle_at = '2000-01-01' WHERE path = 'acme/pair';
	UPDATE apikey_key SET created_at = now() - interval '8 days', enabled_at = NULL WHERE name = 'pair';
	INSERT INTO apikey_usage (id, use_count, denied_count, last_used_at, idle_told) VALUES (apikey_id('$old'), 1, 0, now() - interval '7 days', now()); COMMIT});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM apikey_events WHERE event = 'idle' AND project = 'acme/pair'}), 'a successor is told of in time');
is(sql(qq{SELECT key_id = apikey_id('$new'), at - (detail->>'idle_since')::timestamptz BETWEEN interval '7 days 5 seconds' AND interval '7 days 1 minute'
	FROM apikey_events WHERE event = 'idle' AND project = 'acme/pair'}), 't|t', 'that one, and not before');

$node->stop;
done_testing();
