#!/usr/bin/perl
# What infra/bin/try runs in the place of a service whose image does not exist yet. It answers on the service's port, to every
# request: an API tells whether its role reaches the database, a front end whether it reaches the API. Runs in the PostgreSQL
# image, since that is there anyway and has Perl and psql.
use strict;
use warnings;
use IO::Socket::INET;

my ($name, $port) = @ARGV;
$SIG{TERM} = sub { exit 0 };
$SIG{CHLD} = 'IGNORE';
$| = 1;

my $listener = IO::Socket::INET->new(LocalPort => $port, Listen => 64, ReuseAddr => 1) or die "port $port: $!\n";
print "stand-in for $name, on port $port\n";
while (my $client = $listener->accept) {
    defined(my $child = fork) or next;
    if ($child) { close $client; next }
    answer($client);
    exit 0;
}

sub answer {
    my ($client) = @_;
    local $SIG{ALRM} = sub { exit 0 };
    alarm 15;
    my $request = <$client> // return;
    while (my $header = <$client>) { last if $header =~ /^\r?$/ }
    my ($method, $path) = $request =~ m{^(\S+) (/[^ ?]*)} or return;
    my ($type, $body) = ('text/plain; charset=utf-8', "Healthy\n");
    if ($path !~ m{^/(api/)?health}) {
        ($type, $body) = $ENV{API_BASE_URL} ? ('text/html; charset=utf-8', page()) : ('text/plain; charset=utf-8', database());
    }
    print $client "HTTP/1.1 200 OK\r\nContent-Type: $type\r\nContent-Length: " . length($body) . "\r\nConnection: close\r\n\r\n"
        . ($method eq 'HEAD' ? '' : $body);
}

# As whom the connection string of the service reaches the database.
sub database {
    my %field = map { lc($_->[0]) => $_->[1] } map { [split /=/, $_, 2] } split /;/, $ENV{ConnectionStrings__Database} // '';
    return "stand-in for $name\n" unless $field{host};
    local @ENV{qw(PGHOST PGPORT PGDATABASE PGUSER PGPASSWORD PGCONNECT_TIMEOUT)} =
        ($field{host}, $field{port} // 5432, $field{database}, $field{username}, $field{password}, 5);
    open(my $psql, '-|', 'psql', '--no-psqlrc', '-At', '-c', "SELECT current_user || ', PostgreSQL ' || current_setting('server_version')")
        or return "stand-in for $name: psql cannot be started\n";
    local $/;
    my $told = <$psql> // '';
    $told =~ s/\s+$//;
    return "stand-in for $name; database: " . ($told || 'cannot be reached') . "\n";
}

# What the API answers, asked as a front end asks it on the server side.
sub page {
    my ($host, $at) = $ENV{API_BASE_URL} =~ m{^http://([^:/]+):?(\d*)};
    my $told = 'no answer';
    if (my $api = IO::Socket::INET->new(PeerAddr => $host, PeerPort => $at || 80, Timeout => 5)) {
        print $api "GET / HTTP/1.0\r\nHost: api\r\n\r\n";
        local $/;
        my $text = <$api> // '';
        $told = $1 if $text =~ /\r?\n\r?\n(.*)/s;
    }
    $told =~ s/&/&amp;/g;
    $told =~ s/</&lt;/g;
    return <<"HTML";
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>$name</title>
<style>body { font: 1.1rem/1.6 system-ui, sans-serif; max-width: 40rem; margin: 15vh auto; padding: 0 1.5rem }</style>
<h1>$name</h1>
<p>This page came through the proxy of the production stack. It stands for the front end <b>$name</b>, whose image does not
exist here yet: <code>docker buildx bake -f infra/docker-bake.hcl --load $name</code>, then <code>infra/bin/try</code>.</p>
<p>The API, asked on the server side:</p>
<pre>$told</pre>
</html>
HTML
}
