# Every block of SQL and shell of the documents, as it is written: test/Document.pm
# says how.
use strict;
use warnings;
use lib 'test';
use Document;
use Example;
use PostgreSQL::Test::Utils;
use Test::More;

my @pages = @ARGV ? @ARGV : ('README.md', glob('docs/*.md'), glob('examples/README.md examples/*/README.md clients/*/README.md'));
@pages = split ' ', $ENV{APIKEY_DOCUMENTS} if $ENV{APIKEY_DOCUMENTS};

find_program(@$_) for [ 'curl', 'curl' ], [ 'node', 'nodejs' ], [ 'npm', 'npm' ], [ 'openssl', 'openssl' ],
	[ 'dpkg-query', 'dpkg' ];	# quickstart is for Debian
cannot_run('psycopg 3 with its pool is not installed (Debian: python3-psycopg-pool)')
	if system("/usr/bin/python3 -c 'import psycopg_pool' >/dev/null 2>&1") != 0;
install_packages('examples/node', '--omit=dev');	# can they be had?
for my $page (grep { blocks_of($_) } @pages)
{
	run_page($page);
}

# No example takes any key at all: it says whose, or the page says why it may.
for my $page (@pages)
{
	for my $block (grep { $_->{language} =~ /^(sh|sql|js|python)$/ } blocks_of($page))
	{
		my @calls = $block->{text} =~ s/^.*-- the caller's own keys$//mgr =~ /\bapikey_(?:verify|check|authenticate)(?:_digest)?(\((?:[^()]|(?1))*\))/g;
		like($_, qr/\b(?:project|owner) +=> /, "$page, line $block->{line}: says whose keys it takes") for @calls;
	}
}

# Nor does one work on keys, limits or use by a name or subject alone: anybody can
# make a role a member of a project, with keys in it that are called the same.
for my $page (@pages)
{
	for my $block (grep { $_->{language} =~ /^(sh|sql|js|python)$/ } blocks_of($page))
	{
		for my $condition ($block->{text} =~ /\b(?:FROM|UPDATE|JOIN)\s+(?:auth\.)?(?:apikeys|apikey_limits|apikey_usage_history)\b([^;"`]*)/g)
		{
			next if $condition !~ /\b(?:name|subject)\s+(?:=|IN\b)/;
			like($condition, qr/\b(?:project|path) (?:IS NULL|=|IN\b)|\bid =/, "$page, line $block->{line}: says in which project, or in none");
		}
	}
}
done_testing();
