"""Redaction: what is taken for a secret, what is not, and that it is cheap, precise and final.

No secret here is real, and each is put together from parts, so that no scanner takes it for one.
"""

import json
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errata.redaction import MARK
from errata.serving.fields import LABEL_VALUE_BYTES_MAX
from errata.text import REDACTION_RULES_HASH, redact, redact_label

NL2BASH = Path(__file__).parents[2] / "data" / "nl2bash" / "learn.jsonl"

MEBIBYTE = 1 << 20

CPU_S_MAX = 30
"""For 1 MiB, which takes 0.1 to 1 s. Where the cost grows with the square it takes minutes."""

MIXED = "aB3" + "dE5fG7" * 16
"""Letters of both cases and digits, enough for any token."""
HEX = "0123456789abcdef"
BODY = "MII" + "Evq9" * 15


def mixed(length: int) -> str:
    return MIXED[:length]


PASSWORD = "s3cr3t" + "!Pa55"
JWT = "ey" + "JhbGciOiJIUzI1NiJ9." + "ey" + "JzdWIiOiIxMjM0NTY3ODkwIn0." + mixed(43)
JWE = "ey" + "JhbGciOiJkaXIiLCJlbmMiOiJBMTI4In0.." + mixed(16) + "." + mixed(40) + "." + mixed(22)
AWS_KEY = "wJalr/XUtn+" + mixed(29)
AZURE_KEY = mixed(60) + "/" + mixed(25) + "=="
WEBHOOK = "T" + "0123ABCD/B0123ABCD/" + mixed(24)
BASIC = "dXNlcjpz" + "M2NyM3Q="

# Known by themselves, wherever they stand.
TOKENS = [
    JWT,
    JWE,
    "sk-" + mixed(48),
    "sk-" + "proj-" + mixed(20) + "_" + mixed(20) + "-" + mixed(8),
    "sk-" + "ant-api03-" + mixed(90),
    "AKIA" + "IOSFODNN7EXAMPL3",
    "ASIA" + "IOSFODNN7EXAMPL3",
    *(prefix + mixed(36) for prefix in ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")),
    "github_" + "pat_" + mixed(22) + "_" + mixed(59),
    "glpat" + "-" + mixed(20),
    *(prefix + mixed(24) for prefix in ("sk_live_", "sk_test_", "rk_live_")),
    "xoxb" + "-123456789012-1234567890123-" + mixed(24),
    "xoxp" + "-123456789012-123456789012-" + mixed(32),
    "npm_" + mixed(36),
    "pypi" + "-AgEIcHlwaS5vcmc" + mixed(70),
    "AIza" + mixed(35),
    "hf_" + mixed(34),
    "hvs." + mixed(24),
    "SG." + mixed(22) + "." + mixed(43),
]
SURROUNDINGS = [
    "{}",
    "echo {} | tool",
    "the token is {}, keep it",
    'tool("{}")',
    "https://example.com/?k={}&page=2",
    "see\n{}\nabove",
]

# Each with a mark where the secret stands, which is known by its place.
PLACES = [
    # Headers.
    ('curl -H "Authorization: Bearer {}" https://example.com', mixed(30)),
    ("curl -H 'authorization: bearer {}' https://example.com", mixed(12)),
    ('{{"Authorization": "Basic {}"}}', BASIC),
    ("Authorization: Token {}\r\nAccept: text/html", mixed(40)),
    ("Proxy-Authorization: Basic {}", BASIC),
    ("it sent Bearer {}, twice", mixed(30)),
    ('-H "PRIVATE-TOKEN: {}" x', mixed(20)),
    ('-H "X-Api-Key: {}"', mixed(20)),
    ('curl -H "Authorization: {}" https://example.com', mixed(24)),
    ("authorization: {}\r\nAccept: text/html", HEX * 2),
    ('{{"Authorization": "{}"}}', mixed(30) + "=="),
    ('curl -H "Cookie: {}" https://example.com', "theme=dark; session=" + mixed(20)),
    ("Set-Cookie: {}\r\n", "connect.sid=s%3A" + mixed(24) + "; Path=/; HttpOnly"),
    ("cookie: {}", "JSESSIONID=0123ABCD0123ABCD"),
    ('{{"Cookie": "{}"}}', "a=" + mixed(32)),
    ("wget --header 'Cookie: {}' https://example.com", "csrftoken=" + mixed(32)),
    # Files of credentials.
    ("machine example.com login me password {}", PASSWORD),
    ("machine example.com\n  login me@example.com\n  password {}\n\nmachine b\n", "tr0ub4dor\\&3"),
    ("machine example.com password {} login me", PASSWORD),
    ('printf "machine h\\nlogin u\\naccount a\\npassword {}\\n" > ~/.netrc', PASSWORD),
    # URLs.
    ("git clone https://me:{}@example.com/repo.git", PASSWORD),
    ("postgres://app:{}@db:5432/app?sslmode=disable", PASSWORD),
    ("redis://:{}@cache:6379/0", PASSWORD),
    ("mongodb+srv://app:{}@cluster.example.net", "p@ss:" + PASSWORD),
    ("https://me:{}@example.com", "%40" + PASSWORD),
    ("https://hooks.slack.com/services/{}", WEBHOOK),
    ("https://a.blob.core.windows.net/c?sv=2022&sig={}", mixed(30) + "%2B" + mixed(10) + "%3D"),
    # Assignments.
    *(
        (shape, PASSWORD)
        for shape in (
            "PASSWORD={} ./run",
            "export DB_PASSWORD={}",
            "docker run -e POSTGRES_PASSWORD={} postgres",
            "PGPASSWORD='{}' psql -h db",
            'MYSQL_PWD="{}" mysql',
            "SMTP_PASS={}; export SMTP_PASS",
            "GITHUB_TOKEN={} gh pr list",
            "SECRET_KEY_BASE={}",
            "CLIENT_SECRET={} && run",
            "spring.datasource.password={}",
            "kubectl create secret generic s --from-literal=password={} -n x",
            "mount -t cifs -o username=me,password={},uid=1000 //host/share /mnt",
            "https://example.com/login?user=me&password={}&next=1",
            "Server=db;Uid=me;Pwd={};Database=x",
            'api_key = "{}"',
            "apiKey: '{}',",
            '{{"accessToken": "{}", "n": 1}}',
            '"{{\\"client_secret\\": \\"{}\\"}}"',
            'config["password"] = "{}"',
            "$env:TOKEN = '{}'",
            "password: {}",
            "  password: {}\n  user: me",
            "the password: {}",
            "<password>{}</password>",
            "tool --password={} -v",
            'tool --api-key="{}"',
            "npm config set //registry.example.com/:_authToken={}",
        )
    ),
    ('password = "{}"', "correct horse battery"),
    ("password: {}\n", "swordfish"),
    ("POSTGRES_PASSWORD={}", "my" + "secretpassword"),
    ("PASSWORD={}", "123" + "456"),
    ("aws_secret_access_key = {}\nregion = x", AWS_KEY),
    ('"SecretAccessKey": "{}",', AWS_KEY),
    ("aws configure set aws_secret_access_key {}", AWS_KEY),
    ("AWS_SECRET_ACCESS_KEY={} aws s3 ls", "/" + AWS_KEY[1:]),
    ("DefaultEndpointsProtocol=https;AccountName=a;AccountKey={};EndpointSuffix=b", AZURE_KEY),
    ("Endpoint=sb://a/;SharedAccessKeyName=n;SharedAccessKey={}", AZURE_KEY),
    ("CREATE USER me IDENTIFIED BY '{}';", PASSWORD),
    ("ALTER ROLE me WITH PASSWORD '{}'", PASSWORD),
    # Flags.
    ("tool --password {} -v", PASSWORD),
    ("tool --password '{}' -v", "two " + PASSWORD),
    ("tool --auth-token {}", mixed(20)),
    ("tool --client-secret {}", PASSWORD),
    ("dbca -sysPassword {} -silent", PASSWORD),
    ("keytool -storepass {} -list", PASSWORD),
    ("openssl rsa -in k.pem -passin pass:{} -out o.pem", PASSWORD),
    ("curl -u me:{} https://example.com", PASSWORD),
    ("curl -sSu 'me:{}' https://example.com", "two " + PASSWORD),
    ("curl https://example.com \\\n  --user me:{}", PASSWORD),
    ("find . -exec curl --user me:{} -T {{}} https://example.com/ \\;", PASSWORD),
    ("curl -x http://proxy:80 --proxy-user me:{} https://example.com", PASSWORD),
    ("mysql -u root -p{} -e 'show tables'", PASSWORD),
    ("/usr/bin/mysqldump -uroot -p'{}' db > db.sql", PASSWORD),
    ('ssh host "mysql -uroot -p{} db"', PASSWORD),
    ("sshpass -p {} ssh me@host", PASSWORD),
    ('sshpass -p "{}" ssh me@host', PASSWORD),
    ("docker login -u me -p {} registry.example.com", PASSWORD),
    ("mongosh -u me -p {}", PASSWORD),
    ("redis-cli -h cache -a {} ping", PASSWORD),
    # Keys, whole, in JSON, and cut off.
    *(
        (f"-----BEGIN {kind}PRIVATE KEY-----{{}}-----END {kind}PRIVATE KEY-----\n", body)
        for kind in ("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED ")
        for body in (f"\n{BODY}\n{BODY}\nabc=\n", f"\\n{BODY}\\n{BODY}\\n")
    ),
    (
        "-----BEGIN RSA PRIVATE KEY-----{}-----END RSA PRIVATE KEY-----",
        f"\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00FF\n\n{BODY}\n",
    ),
    (
        "-----BEGIN PGP PRIVATE KEY BLOCK-----{}-----END PGP PRIVATE KEY BLOCK-----",
        f"\nVersion: GnuPG v2\n\n{BODY}\n=aBcD\n",
    ),
    ("cat k\n-----BEGIN PRIVATE KEY-----\n{}\n", f"{BODY}\n{BODY}"),
]

SHAPES = [*((surrounding, token) for token in TOKENS for surrounding in SURROUNDINGS), *PLACES]
KIND_COUNT = len(TOKENS) + len({place for place, _ in PLACES})
"""A token in six surroundings is of one kind."""

HARMLESS = [
    "",
    "git show " + HEX * 2 + HEX[:8],
    "git checkout -b feature/token-refresh",
    "mount UUID=09b8f1ab-8d4b-4c5f-b395-40be09c090b0 /mnt",
    "runme run 01HF7B0KJM3HHFDVSXA6E12JM3",
    "docker pull alpine@sha256:" + HEX * 4,
    "docker pull docker://registry.example.com:5000/alpine@sha256:" + HEX * 4,
    "echo " + HEX * 4 + " | sha256sum -c",
    "mkdir -p a/b/c",
    "mkdir -pv a/b",
    "docker run -p 8080:80 nginx",
    "ssh -p 8080 me@host",
    "ssh -p2222 me@host",
    "mysql -u root -p",
    "mysql -u root -p db",
    'mysql -u root -p"$PASSWORD" db',
    "mysql -u root -p$MYSQL_PASSWORD db",
    "mysql -e 'select 1'; mkdir -pv a",
    "mysql -e 'select 1' && mkdir -pv a",
    "find / -name mysql -print",
    "cp -pr a b",
    "docker run -u 1000:1000 --user node:node alpine",
    "curl -u me https://example.com",
    'curl -u "$USER:$PASSWORD" https://example.com',
    "curl -u ${USER}:${PASSWORD} https://example.com",
    "curl https://example.com; docker run -u me:staff alpine",
    "sudo -u postgres psql",
    "export PASSWORD=$1",
    'PASSWORD="$(cat /run/secrets/password)"',
    "PASSWORD=`pass show db`",
    "password=$(pwgen 20 1)",
    "PASSWORD=${PASSWORD:?unset}",
    "TOKEN=${{ secrets.TOKEN }}",
    "PASSWORD=<password>",
    "PASSWORD=YOUR_PASSWORD",
    "PASSWORD=xxxxxxxx",
    "PASSWORD=********",
    "password: {{ .Values.password }}",
    "--password %s",
    "password=%s&user=%s",
    "PASSWORD_FILE=/run/secrets/db",
    "PASSWORD=/run/secrets/db",
    "token=",
    'password=""',
    "password: null",
    "token: true",
    "max_tokens=4096",
    "token_count: 12345",
    "password = getpass.getpass()",
    "login(user, password=self.password)",
    "token = os.environ['TOKEN']",
    'if password == "":',
    'url = "https://example.com/?password=" + password + "&x=1"',
    'grep "password=" config.txt | cut -d = -f 2',
    "sed -n '/password=/p' config.txt",
    "read -s -p 'Password: ' password",
    "Enter password: ",
    "password: string",
    "Set the password: it must be long",
    "use the --password option to log in",
    "passwd: files systemd\nshadow: files",
    "passwd me",
    "grep root /etc/passwd",
    "kubectl get secret db -o yaml",
    "docker run --secret id=token,src=token.txt .",
    "curl -H 'Authorization: Bearer $TOKEN' https://example.com",
    'curl -H "Authorization: Bearer ${TOKEN}" https://example.com',
    'curl -H "Authorization: Bearer <token>" https://example.com',
    "curl -H 'Authorization: $TOKEN' https://example.com",
    "Authorization: AWS4-HMAC-SHA256 Credential=",
    "Authorization: required-by-section-3",
    "authorization = authorization_of(request_1)",
    'wget --header "Cookie: oraclelicense=accept-securebackup-cookie" https://example.com',
    'curl -H "Cookie: session=$SESSION; theme=dark" https://example.com',
    "Cookie: session=<id>",
    "Cookie: theme=dark; lang=en; consent=1",
    "document.cookie = 'theme=dark'",
    "curl -b cookies.txt -c cookies.txt https://example.com",
    "machine example.com login me password $PASSWORD",
    "machine example.com login me password <password>",
    "machine example.com login me",
    "the machine has a login page, and a password 2 be changed",
    "curl http://localhost:8080/@me",
    "ssh://git@example.com:22/repo.git",
    "https://${USER}:${TOKEN}@example.com",
    "https://user:$TOKEN@example.com",
    "npm install @scope/package-with-a-very-long-name-indeed-2",
    ".sk-toggleable-content-of-an-estimator-block",
    "task-0123456789abcdef0123456789abcdef",
    "sed -n '/-----BEGIN PRIVATE KEY-----/,/-----END PRIVATE KEY-----/p' k.pem",
    "-----BEGIN CERTIFICATE-----\n" + BODY + "\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\n" + BODY + "\n-----END PUBLIC KEY-----",
    "ssh-rsa AAAAB3NzaC1yc2E" + mixed(60) + " me@host",
]


def say(line: str) -> None:
    """Tells who runs this with `-s`, or with `-rP`."""
    sys.stdout.write(f"\n{line}\n")


def test_every_known_shape_of_a_secret_loses_the_secret_and_nothing_else() -> None:
    missed = [
        (shape, redacted)
        for shape, secret in SHAPES
        if (redacted := redact(shape.format(secret))) != shape.format(MARK)
    ]
    say(f"recall: {len(SHAPES) - len(missed)} of {len(SHAPES)} secrets, of {KIND_COUNT} kinds")
    assert missed == []
    assert len(SHAPES) > 200
    assert KIND_COUNT >= 80


def test_what_only_looks_like_a_secret_stays() -> None:
    taken = [text for text in HARMLESS if redact(text) is not text]
    say(f"false positives: {len(taken)} of {len(set(HARMLESS))} that look like secrets")
    assert taken == []
    assert len(set(HARMLESS)) >= 80


def test_of_ten_thousand_real_tasks_only_those_with_a_password_or_token_in_them_change() -> None:
    changed: dict[str, set[str]] = {}
    task_count = 0
    with NL2BASH.open(encoding="utf-8") as lines:
        for line in lines:
            task = json.loads(line)
            task_count += 1
            for field in ("question", "executed", "generated"):
                if (redacted := redact(task[field])) != task[field]:
                    changed.setdefault(redacted, set()).add(task[field])
    uploads = f"-exec curl --user user:{MARK} --ftp-create-dirs -T {{}} https://PATH_TO_NEXUS/{{}} \\;"
    header = f'"Authorization: Token {MARK}"'
    assert sorted(changed) == [
        f"curl -X GET -H {header} http://testsite/api/ | python -mjson.tool",
        f"find . -type f {uploads}",
        f"find trunk -type f {uploads}",
        f'send GET request to "http://testsite/api/" with header {header} and format as json',
        f"sudo mount -t cifs -o username=me,password={MARK} //192.168.0.111/serv_share /mnt/my_share",
    ]
    assert all(len(originals) == 1 for originals in changed.values())
    say(f"false positives: 0 in {task_count:,} tasks of NL2Bash; {len(changed)} texts lose a secret")


def test_several_secrets_of_one_text_all_go() -> None:
    token = "ghp_" + mixed(36)
    text = (
        f"curl -H 'Authorization: Bearer {mixed(30)}' -u me:{PASSWORD} https://a:{PASSWORD}@b/?token={token}"
    )
    expected = f"curl -H 'Authorization: Bearer {MARK}' -u me:{MARK} https://a:{MARK}@b/?token={MARK}"
    assert redact(text) == expected


def test_a_token_in_place_of_a_user_goes() -> None:
    assert redact("https://ghp_" + mixed(36) + ":x-oauth-basic@github.com") == (
        f"https://{MARK}:x-oauth-basic@github.com"
    )


def test_a_key_in_the_place_of_a_password_goes_whole() -> None:
    key = f"-----BEGIN PRIVATE KEY-----\n{BODY}\n{BODY}\n-----END PRIVATE KEY-----"
    assert BODY not in redact(f'PRIVATE_KEY="{key}"')
    assert BODY not in redact("PRIVATE_KEY=" + json.dumps(key))


def test_a_label_keeps_to_its_limit_though_a_mark_is_longer_than_what_it_stands_for() -> None:
    value = "password=a1b " * 19
    assert len(value) == 247
    redacted = redact_label(value)
    assert len(redacted) <= LABEL_VALUE_BYTES_MAX < len(redact(value))
    # Of the last mark not all had room, so nothing is left of it.
    assert redacted == f"password={MARK} " * 12 + "password="
    assert redact_label(redacted) is redacted


def test_a_label_that_is_cut_is_cut_between_characters() -> None:
    value = "password=a1b " * 10 + "é" * 62
    assert len(value.encode()) == 254
    redacted = redact_label(value)
    assert len(redacted.encode()) == 254
    assert redacted.startswith(f"password={MARK} " * 10)
    assert redacted.endswith("é")


def test_a_label_without_a_secret_stays() -> None:
    value = "é" * 127
    assert redact_label(value) is value


PIECES = st.sampled_from(
    [
        *(
            '"',
            "'",
            "`",
            " ",
            "  ",
            "\t",
            "\n",
            "\r\n",
            "\\",
            "\\n",
            "\\\n",
            "&&",
            "=>",
            ":=",
            "://",
            "--",
            "é",
        ),
        *";|&(){}[]<>,:=@/?#$%*-_.!+",
        *("-----BEGIN", " RSA PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"),
        *(
            BODY,
            MARK,
            JWT,
            "sk-",
            "ghp_",
            "github_pat_",
            "glpat-",
            "sk_live_",
            "xoxb-",
            "npm_",
            "AKIA",
            "eyJ",
        ),
        *(
            mixed(20),
            mixed(36),
            "ABCDEFGH23456789",
            "hooks.slack.com/services/",
            "Authorization: ",
            "Bearer ",
        ),
        *(
            "Cookie: ",
            "Set-Cookie:",
            "session=",
            "sid=",
            "; ",
            "machine ",
            "login ",
            " password ",
            " account ",
        ),
        *("machine h login u password ", "Authorization:", "0123", "\\r"),
        *("Basic ", "secret_access_key", "AccountKey=", "?sig=", "&sig=", "password", "PASSWORD", "passwd"),
        *(
            "token",
            "api_key",
            "secret",
            "pass",
            "pwd",
            "PWD",
            "DB_",
            "identified by ",
            "--password ",
            "--token ",
        ),
        *(
            "--client-secret ",
            "--user ",
            "-u ",
            "-u",
            "-p",
            "-p ",
            "-a ",
            "curl ",
            "mysql ",
            "sshpass ",
            "login ",
        ),
        *(
            "redis-cli ",
            "-passin pass:",
            PASSWORD,
            "your_password",
            "xxxx",
            "none",
            "self.",
            "foo(",
            "a1",
            "me",
        ),
    ]
)


@given(st.lists(PIECES, max_size=24).map("".join))
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@given(st.lists(PIECES, max_size=60).map("".join))
def test_redacting_a_label_twice_changes_nothing_more(text: str) -> None:
    value = text.encode()[:LABEL_VALUE_BYTES_MAX].decode(errors="ignore")
    once = redact_label(value)
    assert len(once.encode()) <= LABEL_VALUE_BYTES_MAX
    assert redact_label(once) is once


@given(st.text())
def test_any_text_can_be_redacted(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unit", "length"),
    [
        ("a", MEBIBYTE),
        ("eyJ-", MEBIBYTE),
        ("sk-", MEBIBYTE),
        ("sk-a", MEBIBYTE),
        ("://a:", MEBIBYTE),
        ("password:1", MEBIBYTE),
        ("password=a(", MEBIBYTE),
        ("Cookie: ", MEBIBYTE),
        ("Cookie: a=sess", MEBIBYTE),
        ("sess=a", MEBIBYTE),
        ("machine a login b ", MEBIBYTE),
        ("authorization: a1", MEBIBYTE),
        ("--token your ", MEBIBYTE),
        ('password="', MEBIBYTE),
        ("-----BEGIN PRIVATE KEY-----a-", MEBIBYTE),
        # Where the command of a flag has to be looked for, the constant is larger.
        (" -u a:b", MEBIBYTE),
        ("curl -u a:b ", MEBIBYTE // 4),
        (" -p' -p\" ", MEBIBYTE),
    ],
)
def test_the_time_grows_with_the_length_and_not_with_its_square(unit: str, length: int) -> None:
    text = (unit * (length // len(unit) + 1))[:length]
    begin_s = time.process_time()
    redact(text)
    assert time.process_time() - begin_s < CPU_S_MAX


def test_the_rules_have_a_hash() -> None:
    assert len(REDACTION_RULES_HASH) == 16
