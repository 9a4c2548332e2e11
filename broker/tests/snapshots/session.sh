# Topics
escrow topic create order-paid
escrow topic create order-paid
escrow topic create 'no blanks'
escrow topic update order-paid --keep-finished 2h --reason 'ticket 1'
escrow topic update order-paid --keep-finished 1h --reason 'ticket 1'
escrow topic update order-paid --keep-finished 1h --dry-run
escrow topic show order-paid
escrow topic show nothing
escrow topic create returns
escrow topic ls
escrow topic ls -o jsonl
escrow topic delete returns --dry-run
escrow topic delete returns --reason 'not used'
escrow topic delete returns --yes --reason 'not used'

# Groups
escrow group create billing --topic order-paid --retry fixed:1h --max-attempts 3
escrow group create mail --topic order-paid=gift
escrow group create stock --topic nothing
escrow group ls
escrow group show billing
escrow group update billing --max-attempts 2 --reason 'ticket 2'
escrow group pause mail --reason 'the mail server is down'
escrow group ls
escrow group resume mail
escrow group delete mail --yes
escrow group delete mail --reason 'no gifts any more' --yes

# Messages
escrow pub order-paid '{"order": 41}' --key order-41
echo '{"order": 42}' | escrow pub order-paid - --key order-42 --header currency=EUR
escrow pub nothing hello
escrow pub order-paid hello --deliver-at yesterday
escrow msg find --key order-42
escrow msg get no-id
escrow msg get $(escrow msg find --key order-42 -o jsonl | sed 's/.*"message_id":"\([^"]*\)".*/\1/')
escrow msg trace --key order-42
escrow msg trace --key order-99

# Transactions
escrow pub order-paid '{"order": 43}' --key order-43 --half
escrow pub order-paid '{"order": 44}' --key order-44 --half --transaction-key pay-44 --group checkout
escrow tx ls
escrow tx ls --group checkout -o jsonl
escrow tx show tx-0-1
escrow tx show tx-0-99
escrow tx show 1
escrow tx commit tx-0-1
escrow tx commit tx-0-1 --dry-run
escrow tx commit tx-0-1 --reason 'paid, says the ledger'
escrow tx commit tx-0-1 --reason 'paid, says the ledger' --yes
escrow tx commit tx-0-1 --reason 'paid, says the ledger' --yes
escrow tx rollback tx-0-1 --reason 'no' --yes
escrow tx check tx-0-2 --reason 'the shop is silent' | head -1
escrow tx rollback tx-0-2 --reason 'the card was refused' --yes
escrow tx show tx-0-2 | sed -n '/^events/,$p'
escrow tx check tx-0-2
escrow tx resume tx-0-2
escrow tx ls
escrow tx ls --state decided

# Deliveries, retries and dead letters
escrow sub billing --count 1 --nack --after 1h --reason 'connection refused'
escrow sub billing --count 1 --nack --after 30m --reason 'no such account'
escrow sub billing --count 1 --reject --reason 'account 17 is closed'
escrow sub billing --count 1 --timeout 10ms
until escrow alarms ls -o jsonl | grep -q dead_letters; do :; done
escrow alarms ls
escrow alarms rules
escrow alarms show 1
escrow alarms ack 1
escrow alarms ack 1 --reason 'on it'
escrow alarms ack 1 --reason 'on it too'
escrow retry ls billing
escrow retry ls nobody
escrow retry run billing $(escrow retry ls billing -o jsonl | head -1 | sed 's/.*"message_id":"\([^"]*\)".*/\1/') --reason 'the bank is back'
escrow retry give-up billing $(escrow retry ls billing -o jsonl | tail -1 | sed 's/.*"message_id":"\([^"]*\)".*/\1/') --reason 'never will' --yes
escrow dlq ls billing
escrow dlq ls billing --cause REJECTED -o jsonl
escrow dlq ls --key order-43 -o jsonl | cut -c1-40
escrow dlq facets billing
escrow dlq show billing 0
escrow dlq show billing 9
escrow dlq edit billing 0 --body '{"order": 43, "mended": true}' --dry-run
escrow dlq edit billing 0 --body '{"order": 43, "mended": true}' --header note=mended --reason 'ticket 3' --yes
escrow dlq export billing --format csv
escrow dlq redrive billing --all --dry-run
escrow dlq redrive billing 0 --reason 'it is gone' --yes
escrow dlq redrive billing 1 --rate 50 --reason 'mended' --yes
escrow sub billing --count 1 --reject --reason 'account 17 is closed'
escrow dlq discard billing --all --dry-run
escrow dlq discard billing --all
escrow dlq discard billing --all --reason 'told the customer' --yes
escrow dlq ls billing
until [ -z "$(escrow alarms ls -o jsonl)" ]; do :; done
escrow alarms ls --over
escrow jobs ls
escrow jobs show 3 -o json
escrow jobs results 3
escrow jobs results 3 --refused
escrow jobs pause 3
escrow jobs resume 3
escrow jobs cancel 3
escrow jobs cancel 3 --yes
escrow jobs show 99

# Scheduled messages
escrow pub order-paid later --key order-50 --deliver-at 2099-01-01T00:00:00Z
escrow pub order-paid later --key order-50 --delay 24h
escrow scheduled ls
escrow scheduled move $(escrow scheduled ls -o jsonl | sed 's/.*"message_id":"\([^"]*\)".*/\1/') --in 48h --reason 'not before the feast'
escrow scheduled ls | cut -f2-3
escrow scheduled cancel $(escrow scheduled ls -o jsonl | sed 's/.*"message_id":"\([^"]*\)".*/\1/') --yes
escrow scheduled ls

# Seeking
escrow group seek billing --topic order-paid --oldest --dry-run
escrow group seek billing --topic order-paid --newest --yes --reason 'start over'
escrow group seek billing --topic order-paid
escrow group seek billing --topic nothing --newest --yes

# The broker
escrow status | grep -v -E '^(uptime|data dir|disk free)'
escrow top --once | sed -n '2,4p'
escrow client ls
escrow alarms ls
escrow alarms sinks
escrow alarms show 7
escrow alarms test oncall
escrow audit ls
escrow audit ls --verb tx.commit -o json
escrow audit export --to audit.csv --format csv && cut -d, -f2-4 audit.csv
escrow store verify | sed 's/[0-9][0-9,]*$/[COUNT]/'
escrow store stats | cut -f1
escrow store backup --to backup.escrow 2>&1 | sed 's/[0-9][0-9,.]* [KM]iB/[SIZE]/g'
escrow store backup --to backup.escrow
escrow store restore backup.escrow --data-dir restored 2>&1 | sed 's/[0-9][0-9]*/[COUNT]/g'
escrow store verify --data-dir restored | sed 's/[0-9][0-9,]*$/[COUNT]/'
escrow store repair --data-dir restored --dry-run 2>&1 | sed 's/[0-9][0-9,]* /[COUNT] /g'
escrow store restore backup.escrow --data-dir restored
escrow server health --set grpc.listen=127.0.0.1:1
escrow server check-config --set nothing.here=1
escrow server check-config --set grpc.listen=0.0.0.0:7800
escrow server check-config
escrow server print-defaults | head -3

# Contexts and checks
escrow context ls
escrow context add here http://127.0.0.1:1 --use
escrow context add here http://127.0.0.1:2
escrow context add bad 'not a url'
escrow context ls
escrow context show
escrow context use nowhere
escrow context rm here --yes
escrow check health | sed 's/ - .*//'
escrow check lag billing
escrow check lag nobody
escrow check dlq
escrow check tx
escrow check tx --age-warning 2h
escrow check tx --age-critical 5m

# For the shell
escrow man tx commit | sed -n '/^.SH NAME/,/^.SH SYNOPSIS/p'
escrow completions bash | head -1

# What makes no sense
escrow
escrow tx comit tx-0-1
escrow tx ls --state lost
escrow dlq ls
escrow dlq facets
escrow dlq ls billing --since tomorrow
escrow status --url ftp://nowhere
escrow status --url http://127.0.0.1:1
