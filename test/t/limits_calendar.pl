# The calendar of quotas, by a clock that can be set: when periods begin and
# end, what a period that changes does, and a clock that is set back.
use strict;
use warnings;
use lib 'test';
use Clock;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::Local 'timegm';

my $clock = Clock->new(PostgreSQL::Test::Utils::tempdir()) or plan(skip_all => Clock::error());
# "2028-01-31 12:00:00", in UTC, or so many seconds later.
sub at
{
	my ($time, $after) = @_;
	my ($year, $month, $day, $hour, $minute, $second) = split /\D/, $time;
	$clock->set(timegm($second // 0, $minute // 0, $hour // 0, $day, $month - 1, $year) + ($after // 0) - time);
}
at('2028-01-31 12:00:00');
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
autovacuum = off
timezone = 'Asia/Tokyo'
});
$clock->start($node);
sub sql { return $node->safe_psql('postgres', join ';', @_) }
sql('CREATE EXTENSION apikey CASCADE');
my $key = sql("SELECT apikey_create('one')");
my $id = "apikey_id('$key')";
like(sql("SELECT now() AT TIME ZONE 'UTC'"), qr/^2028-01-31 12:00/, 'the server has that clock');

sub set { my ($unit, $period, $amount) = @_; return sql("SELECT apikey_limit_set('$unit', " . ($amount // 10) . ", '$period', 'quota', key => $id)") }
# Who waits for the worker may be too late once.
sub spend
{
	my ($unit, $n) = @_;
	my $result;
	for (1 .. 50)
	{
		$result = sql("SELECT code FROM apikey_verify('$key', cost => 0, costs => '{\"$unit\": $n}')");
		last if $result ne 'unavailable';
	}
	return $result;
}
sub ends { return sql("SELECT to_char(resets_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') FROM apikey_limits WHERE unit = '$_[0]'") =~ s/ 00:00:00$//r }

# A period's ends, one after the other; each is spent to its last second, and
# begins with all of it.
my @periods = (
	['hours', '1 hour', '2028-01-31 13:00:00', '2028-01-31 14:00:00', '2028-01-31 15:00:00'],
	['days', '1 day', '2028-02-01', '2028-02-02', '2028-02-03'],
	# Weeks begin on Mondays.
	['weeks', '7 days', '2028-02-07', '2028-02-14', '2028-02-21'],
	['months', '1 month', '2028-02-01', '2028-03-01', '2028-04-01'],
	['years', '1 year', '2029-01-01', '2030-01-01', '2031-01-01'],
	# Others begin when they are set, and a month that has no such day ends with
	# its last, without the next forgetting which day it was.
	['two', '2 months', '2028-03-31 12:00', '2028-05-31 12:00', '2028-07-31 12:00'],
	['quarter', '3 months', '2028-04-30 12:00', '2028-07-31 12:00', '2028-10-31 12:00', '2029-01-31 12:00', '2029-04-30 12:00'],
	['thirteen', '13 months', '2029-02-28 12:00', '2030-03-31 12:00', '2031-04-30 12:00', '2032-05-31 12:00'],
	['thirty', '30 days', '2028-03-01 12:00', '2028-03-31 12:00', '2028-04-30 12:00'],
	['ninety', '90 minutes', '2028-01-31 13:30', '2028-01-31 15:00']);
for my $period (@periods)
{
	my ($unit, $interval, @ends) = @$period;
	at('2028-01-31 12:00:00');
	my $limit = set($unit, $interval);
	for my $end (@ends)
	{
		my $shown = ends($unit);
		my $after = 0;
		# What follows no calendar began within the second in which it was set.
		if ($end =~ / 12:00$| \d\d:[03]0$/)
		{
			like($shown, qr/^$end:0[0-9]$/, "$interval: to $end");
			# Some part of a second later than is shown.
			$end = $shown;
			$after = 1;
		}
		else { is($shown, $end, "$interval: to $end") }
		is(spend($unit, 10) . ' ' . spend($unit, 1), 'valid exhausted', 'is spent once');
		at($end, $after);
	}
	is(spend($unit, 10) . ' ' . spend($unit, 1), 'valid exhausted', 'and the last');
	sql("SELECT apikey_limit_drop('$limit')");
}
# A leap day.
at('2028-02-29 08:00:00');
my $leap = set('leap', '2 years');
for ('2030-02-28 08:00', '2032-02-29 08:00', '2034-02-28 08:00')
{
	like(ends('leap'), qr/^$_/, "from a leap day to $_");
	at(ends('leap'), 1);
	is(spend('leap', 10), 'valid', 'is spent');
}
sql("SELECT apikey_limit_drop('$leap')");

# Only the second before its end is the period's.
at('2028-03-30 23:59:00');
my $day = set('edge', '1 day');
is(spend('edge', 10), 'valid', 'all of a day');
at('2028-03-30 23:59:50');
is(spend('edge', 1), 'exhausted', 'before its end');
at('2028-03-31 00:00:00');
is(spend('edge', 10), 'valid', 'at its end');
is(spend('edge', 1), 'exhausted', 'no more than that');
# Years of nothing grant one period.
at('2031-06-15 10:00:00');
is(spend('edge', 11), 'exhausted', 'nothing is carried on');
is(spend('edge', 10), 'valid', 'over years');

# A clock that is set back grants nothing twice, and one that is put right
# again neither; nobody is left without the next period.
at('2031-06-14 10:00:00');
is(spend('edge', 1), 'exhausted', 'set back a day');
at('2031-06-15 11:00:00');
is(spend('edge', 1), 'exhausted', 'put right');
at('2031-06-16 00:00:01');
is(spend('edge', 4), 'valid', 'the next day');
at('2030-01-01 00:00:00');
is(spend('edge', 7), 'exhausted', 'set back a year, with a rest');
is(spend('edge', 6), 'valid', 'which may be spent');
at('2031-06-16 12:00:00');
is(spend('edge', 1), 'exhausted', 'once');
sql("SELECT apikey_charge($id, '{\"edge\": -3}')");
at('2031-06-17 00:00:01');
is(spend('edge', 10), 'valid', 'and the day after is another');
sql("SELECT apikey_charge($id, '{\"edge\": -10}')");
is(spend('edge', 10) . ' ' . spend('edge', 1), 'valid exhausted', 'of which may be given back what was spent of it');
at('2031-06-18 00:00:01');
sql("SELECT apikey_charge($id, '{\"edge\": -10}')");
is(spend('edge', 10) . ' ' . spend('edge', 1), 'valid exhausted', 'but not what was spent the day before');
sql("SELECT apikey_limit_drop('$day')");

# A period that changes while in use begins then; what was spent stays spent.
at('2032-01-31 12:00:00');
my $changed = set('changed', '1 day');
is(spend('changed', 7), 'valid', 'of a day');
sql("UPDATE apikey_limits SET period = '1 month' WHERE id = '$changed'");
is(ends('changed'), '2032-02-01', 'a month from now on');
is(spend('changed', 4) . ' ' . spend('changed', 3), 'exhausted valid', 'with what was left');
at('2032-02-01 00:00:00');
is(spend('changed', 10), 'valid', 'until it ends');
sql("UPDATE apikey_limits SET period = '3 months' WHERE id = '$changed'");
like(ends('changed'), qr/^2032-05-01/, 'three months from then');
is(spend('changed', 1), 'exhausted', 'nor is a longer one new');
sql("UPDATE apikey_limits SET period = '1 hour' WHERE id = '$changed'");
is(ends('changed') . ' ' . spend('changed', 1), '2032-02-01 01:00:00 exhausted', 'a shorter one');
at('2032-02-01 01:00:00');
is(spend('changed', 10), 'valid', 'ends so soon');
# Set again by another period it is another limit.
isnt(set('changed', '1 day'), $changed, 'another');
sql('SELECT apikey_limit_drop(id) FROM apikey_limits');

# Sixteen sessions at the end of a period: it is refilled once.
my $shared = set('shared', '1 day', 200);
my $dir = PostgreSQL::Test::Utils::tempdir();
append_to_file("$dir/spend", "SELECT spend();\n");
sql(q{CREATE TABLE spent (n int)},
	qq{CREATE FUNCTION spend() RETURNS void LANGUAGE sql AS 'INSERT INTO spent SELECT 3 FROM apikey_verify(''$key'', cost => 0, costs => ''{"shared": 3}'') v WHERE v.valid'});
for my $date ('2032-02-02', '2032-02-03', '2032-02-10')
{
	sql('TRUNCATE spent');
	at("$date 00:00:00");
	$node->command_ok([ 'pgbench', '-n', '-c', '16', '-j', '2', '-t', '8', '-f', "$dir/spend", 'postgres' ], "sixteen sessions on $date");
	my $spent = sql('SELECT coalesce(sum(n), 0) FROM spent');
	cmp_ok($spent, '<=', 200, 'one refill');
	cmp_ok($spent, '>', 150, 'but one');
	is(sql('SELECT apikey_flush()', "SELECT remaining FROM apikey_limits WHERE id = '$shared'") =~ s/^\s+//r, 200 - $spent, 'to the last');
}
$node->stop;
done_testing();
