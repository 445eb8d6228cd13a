# A minimal system log for one host: /dev/log into auth.log, cron.log and syslog, in the format of RFC 3164.
use Socket; use Sys::Hostname; use POSIX 'strftime';
my $host = hostname; my %file;
for ('auth.log', 'cron.log', 'syslog') { open $file{$_}, '>>', "/var/log/$_" or die; $file{$_}->autoflush(1) }
unlink '/dev/log'; socket my $log, AF_UNIX, SOCK_DGRAM, 0 or die; bind $log, pack_sockaddr_un('/dev/log') or die; chmod 0666, '/dev/log';
while (defined recv $log, my $line, 65536, 0) {
  my ($facility, $text) = $line =~ /^<(\d+)>(?:\w{3} [ \d]\d \d\d:\d\d:\d\d )?(.*)/s ? ($1 >> 3, $2) : (1, $line);
  $text =~ s/\s+\z//; $text =~ s/([\x00-\x1f])/sprintf '#%03o', ord $1/ge;
  my $name = $facility == 4 || $facility == 10 ? 'auth.log' : $facility == 9 ? 'cron.log' : 'syslog';
  print { $file{$name} } strftime('%b %e %H:%M:%S', localtime) . " $host $text\n";
}
