# A fleet under load, of which every part fails: servers are killed, wires cut,
# a standby is promoted and the old primary comes back.  Then each use is counted
# once, nothing was spent twice, and no server is left behind.  With
# APIKEY_TEST_LONG in the environment, 20 rounds with cuts of up to a minute.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use Fleet;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $long = $ENV{APIKEY_TEST_LONG};
my $rounds = $long ? 20 : 1;
my ($granted, $rate, $per) = (1000, 100, 4);
my $fleet = Fleet->new(q{
apikey.flush_interval = '300ms'
apikey.fleet_interval = '200ms'
apikey.fleet_heartbeat = '200ms'
apikey.fleet_timeout = '1s'
}, 'a', 'b', 'c', 'd');

# Keys of a round: without a limit, disabled, with credits, a quota, a balance,
# more credits than can be spent, and a rate that servers share.
sub make_keys
{
	my ($round) = @_;
	my $primary = $fleet->primary;
	my %more = (plain => '', off => '', credits => ", credits => $granted", quota => '', balance => '',
		left => ', credits => 1000000000', shared => '');
	my %keys = map { $_ => $primary->safe_psql('postgres', "SELECT apikey_create('$_$round'$more{$_})") } keys %more;
	$primary->safe_psql('postgres', qq{SELECT apikey_disable(apikey_id('$keys{off}'));
		SELECT apikey_limit_set('requests', $granted, '1 year', 'quota', key => apikey_id('$keys{quota}'));
		SELECT apikey_limit_set('requests', $granted, NULL, 'balance', key => apikey_id('$keys{balance}'));
		SELECT apikey_limit_set('requests', $rate, '$per seconds', key => apikey_id('$keys{shared}'), shared => true)});
	return %keys;
}

# Cuts each wire for a while, some at once; one of them for longest.
sub cut_wires
{
	my ($round) = @_;
	my %wires = (%{ $fleet->wires });
	my @names = grep { $_ ne $fleet->{primary} } sort keys %wires;
	my $longest = $names[ $round % @names ];
	my @events;
	for my $name (@names)
	{
		my $begin = rand() * 1.5;
		my $lasts = !$long ? 1 + rand() : $name eq $longest ? 1 + rand() * 59 : 1 + rand() * 9;
		push @events, [ $begin, rand() < 0.5 ? 'hold_up' : 'break_off', $name ], [ $begin + $lasts, 'mend', $name ];
	}
	my $begun = time;
	for my $event (sort { $a->[0] <=> $b->[0] } @events)
	{
		my ($at, $what, $name) = @$event;
		my $rest = $begun + $at - time;
		sleep $rest if $rest > 0;
		note sprintf '%.1f s: %s %s', time - $begun, $what, $name;
		$wires{$name}->$what;
	}
}

# The primary ends in the middle of it all, and comes back as a standby.
sub fail_over
{
	my ($round, $lost) = @_;
	my $old = $fleet->{primary};
	my $cut = $fleet->wires->{d};
	$cut->hold_up;
	# A report is on its way, and its answer is not.
	my $last = $fleet->tally('d')->{valid}{plain} // 0;
	$fleet->waits_for(sub { ($fleet->tally('d')->{valid}{plain} // 0) > $last + 5 });
	$fleet->crash($old, $lost);
	my $new = $fleet->promote;
	note "$new follows $old";
	$fleet->come_back($old, $round % 2);
}

# What all servers tell of the keys of a round, once it is the same.
sub counted
{
	my ($round) = @_;
	my $query = "SELECT string_agg(format('%s %s %s', substr(name, 1, length(name) - length('$round')), use_count, denied_count), ' ' ORDER BY name) FROM apikeys WHERE name ~ '^[a-z]+$round\$'";
	my %tells;
	my $same = $fleet->waits_for(sub {
		%tells = map { $_ => $fleet->ask($_, $query) // '?' } $fleet->names;
		return !grep { $_ ne $tells{ $fleet->{primary} } } values %tells });
	ok($same, "round $round: all servers tell the same") or diag explain \%tells;
	my @words = split ' ', $tells{ $fleet->{primary} };
	my %counted;
	while (my ($key, $uses, $denials) = splice @words, 0, 3)
	{
		$counted{valid}{$key} = $uses;
		$counted{denied}{$key} = $denials;
	}
	return \%counted;
}

# The clients' own, of all servers.
sub sums
{
	my %sums;
	for my $tally (map { $fleet->tally($_) } $fleet->names)
	{
		for my $what ('valid', 'denied') { $sums{$what}{$_} += $tally->{$what}{$_} for keys %{ $tally->{$what} } }
		push @{ $sums{times}{$_} }, @{ $tally->{times}{$_} } for keys %{ $tally->{times} };
	}
	return \%sums;
}

# Each is counted once, but for what a crash may lose: then no more than that is
# missing.  Of what a killed server had counted its client may not have been told.
sub check_counts
{
	my ($round, $sums, $counted, $lost) = @_;
	for my $what ('valid', 'denied')
	{
		for my $key (sort keys %{ $counted->{$what} })
		{
			my ($own, $is, $may) = ($sums->{$what}{$key} // 0, $counted->{$what}{$key}, $lost->{$what}{$key} // 0);
			my $over = $lost->{crashes} // 0;
			ok($is <= $own + $over && $is >= $own - $may, "round $round: of $own times $what of $key $is are counted, and at most $may lost");
		}
	}
}

# What is left of accounts, from each server in turn, until there is nothing.
sub drain
{
	my ($key) = @_;
	my ($total, %over) = 0;
	my $done = $fleet->waits_for(sub {
		for my $name ($fleet->names)
		{
			my $answer = $fleet->ask($name, qq{
				DO \$\$ DECLARE valid bigint := 0; last text; BEGIN
				LOOP
					SELECT code INTO last FROM apikey_verify('$key');
					EXIT WHEN last IS DISTINCT FROM 'valid';
					valid := valid + 1;
				END LOOP;
				PERFORM set_config('my.result', valid || ' ' || last, false);
				END\$\$; SELECT current_setting('my.result')}) // next;
			my ($valid, $code) = split ' ', $answer;
			$total += $valid;
			if ($code eq 'exhausted') { $over{$name} = 1 } else { %over = () }
		}
		return keys %over == $fleet->names });
	ok($done, 'and is exhausted everywhere');
	return $total;
}

# In no time passes more than the bound: the greatest excess of what passed since
# any one began over what comes in that time.
sub passed_over_bound
{
	my @times = sort { $a->[0] <=> $b->[0] } @{ $_[0] // [] };
	my $step = $rate / $per;
	my ($most, $least, $last) = (0, undef, 0);
	for my $i (0 .. $#times)
	{
		my ($begun, $ended) = @{ $times[$i] };
		$last = $ended if $ended > $last;
		my $before = $i - $step * $begun;
		$least = $before if !defined $least || $before < $least;
		my $passed = $i + 1 - $step * $last - $least;
		$most = $passed if $passed > $most;
	}
	return $most;
}

for my $round (1 .. $rounds)
{
	my $begun = time;
	my %lost;
	my %keys = make_keys($round);
	$fleet->caught_up;
	$fleet->load_begin(%keys);
	cut_wires($round);
	for my $name ($fleet->names)
	{
		$fleet->crash($name, \%lost);
		$fleet->start($name);
	}
	fail_over($round, \%lost);
	# From here on nothing fails.
	for my $name ($fleet->names)
	{
		ok($fleet->waits_for(sub { ($fleet->ask($name, "SELECT code FROM apikey_verify('$keys{left}', cost => 0)") // '') eq 'valid' &&
			($fleet->ask($name, "SELECT code FROM apikey_verify('$keys{shared}', cost => 0)") // '') =~ /^(valid|rate_limited)$/ }),
			"round $round: $name is not left unavailable");
	}
	$fleet->load_end;
	my $sums = sums();
	$fleet->is_told($_) for $fleet->members;
	$fleet->caught_up;
	check_counts($round, $sums, counted($round), \%lost);
	for my $key ('credits', 'quota', 'balance')
	{
		my $spent = ($sums->{valid}{$key} // 0) + drain($keys{$key});
		cmp_ok($spent, '<=', $granted, "round $round: of $key no more than granted");
	}
	my $passed = passed_over_bound($sums->{times}{shared});
	cmp_ok($passed, '<=', $rate + 1.2 * $rate / $per, "round $round: of the shared rate no more than its bound");
	is($fleet->ask($fleet->{primary}, "SELECT string_agg(DISTINCT left(name, 1), '' ORDER BY left(name, 1)) FROM apikey_servers WHERE last_report_at > now() - interval '1 minute'"),
		'abcd', "round $round: all servers report");
	note sprintf 'round %d took %.0f s', $round, time - $begun;
}
$fleet->node($_)->stop('fast') for $fleet->{cascade}, grep({ $_ ne $fleet->{cascade} } $fleet->members), $fleet->{primary};
done_testing();
