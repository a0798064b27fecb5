"""The rules of redaction: what has the shape of a secret, and what a text with one of them in it must hold.

See `redaction.py` for what they promise together. A pattern that takes a value leaves out what begins with
the mark, and what is left of a match holds no secret of another rule.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple


class Rule(NamedTuple):
    """One shape of a secret. Of the groups of its pattern one takes part in a match: the secret."""

    name: str
    starts_with: str
    """What the first character may be. A rule is tried nowhere else: the whole is three times faster so."""
    pattern: str
    commands: tuple[str, ...] = ()
    """The commands to which alone the flag means a secret; none where the shape is enough."""


# A credential that its own prefix gives away.
_PREFIXED: Final = r"""(?<![A-Za-z0-9])(?:
    (?<![\w-])eyJ[\w-]{10,}+\.[\w-]*+\.[\w-]{8,}+(?:\.[\w-]++){0,2}    # JSON web token, signed or encrypted
  | sk-(?=[A-Za-z0-9]{20}|[A-Za-z_-]{0,60}+[0-9])[\w-]{20,}+           # OpenAI, Anthropic and their like
  | gh[pousr]_[A-Za-z0-9]{30,}+ | github_pat_\w{20,}+
  | gl(?:pat|dt|rt|ft|ptt|soat|cbt|imt|agent)-[\w-]{20,}+              # GitLab
  | [sr]k_(?:live|test)_[A-Za-z0-9]{10,}+ | whsec_[A-Za-z0-9+/]{20,}+  # Stripe
  | xox[a-z]-[\w-]{10,}+ | xapp-[0-9]-[\w-]{10,}+                      # Slack
  | npm_[A-Za-z0-9]{30,}+
  | pypi-(?=AgE|[A-Za-z_]*+[0-9])[\w-]{32,}+
  | AIza[\w-]{30,}+ | ya29\.[\w-]{20,}+ | GOCSPX-[\w-]{20,}+           # Google
  | (?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])                           # AWS
  | hf_[A-Za-z0-9]{30,}+                                               # Hugging Face
  | hvs\.[\w-]{20,}+                                                   # Vault
  | SG\.[\w-]{16,}+\.[\w-]{16,}+                                       # SendGrid
)"""

# The last part of the name of something secret: of a variable, a key, a header.
_NAME: Final = r"""(?:
  (?i: pass(?:word|wd|phrase|code) | pswd | secret(?:[-_.]?key(?:_base)?)? | token
     | (?:api|access|private|auth|account|encryption|signing)[-_.]?key )
  | (?<![A-Za-z0-9])(?:pass|PASS|Pass) | (?<=[_;.&?-])(?:pwd|Pwd) | (?<=_)PWD
)[0-9]{0,2}"""
_NAME_STARTS: Final = "AaEePpSsTt"

# Ends a value that stands without quotes.
_STOP: Final = r"""\s"'`;&|<>(){},"""


def _placeholder(end: str, your: str = "[-_a-z]") -> str:
    """What stands where a secret would and is none; `end` must follow."""
    return rf"""(?:
      (?i: password | passwd | pswd | pwd | your{your}{{0,40}}+ | x{{3,}}+
         | none | null | nil | undefined | true | false | yes | no | on | off
         | str | string | int | bool | boolean | number | any | required | optional
         | [\w./-]{{1,128}}?\.(?:pem|key|crt|p12|pub|txt|json|ya?ml|env) )
      | PASS | \*++ | \.{{3}} | [0-9]{{1,3}} ){end}"""


# A mark ends a placeholder too, as what is a placeholder before a token is one before its mark.
_QUOTE_END: Final = r"""(?=\\?["'\[])"""
_QUOTED_START: Final = rf"""(?!{_placeholder(_QUOTE_END, your="[-_ a-z]")}|-----BEGIN|%[a-z(\[])
  (?=[^\s"'\\$`<{{\[(|;),+/~])"""

# A key in PEM may span lines, which no value in quotes here does: its own rule takes it.
_QUOTED: Final = rf"""(?:
    \\" {_QUOTED_START} ( [^"\\\n]++ )
  | "   {_QUOTED_START} ( (?:[^"\\\n-] | \\[^\n] | -(?!----BEGIN))++ )
  | '   {_QUOTED_START} ( (?:[^'\n-] | -(?!----BEGIN))++ ) )"""

_BARE_END: Final = rf"(?![^{_STOP}@\\\[])"
# Code rather than a value: a call, or a part of something.
_CODE: Final = r"""[\w.\[\]]{1,128}+\( | (?i: self | this | args | opts | options | config | settings
  | process | os | env | request | req | ctx | var | local | module | data | secrets | vault )\."""
_BARE: Final = rf"(?!{_placeholder(_BARE_END)}|{_CODE})( [A-Za-z0-9+!_][^{_STOP}]*+ )"

_USER: Final = rf"(?!-)(?:(?!{_PREFIXED})[\w.@%+~\\-]){{1,64}}+"
_CREDENTIAL_START: Final = rf"(?!{_placeholder(_BARE_END)}|[$<{{\[*]|%(?![0-9A-Fa-f]{{2}}))"

# Between the words of a file, also one that a command is about to write.
_SPACE: Final = r"(?:\s|\\[nrt])++"

RULES: Final = (
    Rule(
        "PEM private key",
        "-",
        # A body ends at the next five hyphens, so at the next candidate at the latest. A key that was cut off
        # has no end: then its lines are taken.
        r"""-----BEGIN\ [A-Z0-9 ]{0,40}PRIVATE\ KEY(?:\ BLOCK)?-----
            (?: (?=(?:[^-\[\]]|-(?!----)){0,1000}?[A-Za-z0-9+/]{20})
                ([^-\[\]]*+(?:-(?!----)[^-\[\]]*+)*+) (?=-----END)
              | (?:\s|\\[nr]|["'])*+
                ([A-Za-z0-9+/=]{32,}+(?:(?:\s|\\[nr]|["'])++[A-Za-z0-9+/=]{32,}+)*+) )""",
    ),
    Rule("token with a prefix", "AGSeghnprswxy", rf"({_PREFIXED})"),
    Rule("Slack webhook", "h", r"hooks\.slack\.com/services/([\w/]{20,}+)"),
    Rule(
        "authorization header",
        "Aa",
        r"""(?i:authorization)\\?["']?[ \t]*+[:=][ \t]*+\\?["']?(?i:bearer|basic|token|apikey)[ \t]++
            (?!(?i:token|credentials|your[-_a-z]{0,40}+|x{3,}+)(?![\w.~+/=-])) ([A-Za-z0-9._~+/-]++=*+)""",
    ),
    Rule(
        "authorization header without a scheme",
        "Aa",
        # After the name of a scheme more follows, which this does not allow.
        r"""(?i:authorization)\\?["']?[ \t]*+[:=][ \t]*+\\?["']?(?=(?:[A-Za-z._~+/-]*+[0-9]){3})
            ([A-Za-z0-9._~+/-]{16,}+=*+)(?=[ \t]*+(?:$|[\r\n"'\\]))""",
    ),
    Rule(
        "cookie header",
        "Cc",
        # Taken as a whole, if one of its values is a token or has the name of a session. A look for that ends
        # at the next colon, so at the next candidate at the latest.
        r"""(?<![A-Za-z0-9])(?i:cookie)\\?["']?[ \t]{0,8}:[ \t]{0,8}\\?["']?
            (?=[^\r\n:"'`\\]{0,4096}?
               (?: (?i: sess | (?<![A-Za-z])sid | token | auth | jwt | csrf | xsrf )[\w.-]{0,64}+=(?!x{3})
                   (?=[A-Za-z_%.+/~-]*+[0-9])[\w%.+/~-]{8,}+
                 | =(?=[A-Za-z_%.+/~-]*+[0-9])(?=[0-9_%.+/~-]*+[A-Za-z])[\w%.+/~-]{24,}+ )(?=[=;"'`\\\s]|$) )
            ([^\s"'`\\\[][^\r\n"'`\\]{0,4096}+)""",
    ),
    Rule(
        ".netrc",
        "m",
        # Host and user are kept, so neither may hold a secret of another shape.
        rf"""(?<![\w.-])machine{_SPACE}(?:(?!{_PREFIXED})[\w.-]){{1,253}}+{_SPACE}
            (?:(?:login|account){_SPACE}(?:(?!{_PREFIXED})[\w.@%+~-]){{1,64}}+{_SPACE}){{0,3}}+
            password{_SPACE}(?!{_placeholder(_BARE_END)})
            ( (?:[^\s"'`$<{{\[\\]) (?:[^\s"'`\[\\] | \\(?![nrt]))*+ )""",
    ),
    Rule(
        "bearer token",
        "Bb",
        r"(?<![A-Za-z0-9])[Bb]earer[ \t]++(?=[A-Za-z_.~+/-]*+[0-9])([A-Za-z0-9._~+/-]{20,}+=*+)",
    ),
    Rule(
        "password in a URL",
        ":",
        rf"""://(?:(?!{_PREFIXED})[\w.%+~!*-]){{0,128}}+:{_CREDENTIAL_START}
            ([^\s/?\#"'`<>\[\]]+)(?=@(?!sha256:))""",
    ),
    Rule(
        "AWS secret access key",
        "Ss",
        r"""(?i:secret[-_]?access[-_]?key)\\?["']?(?:[ \t]*+[:=][ \t]*+\\?["']?|[ \t]++)
            ([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])""",
    ),
    Rule("Azure key", "AS", r"(?:Account|SharedAccess)Key=([A-Za-z0-9+/]{20,}+={0,2})"),
    Rule("Azure signature", "?&", r"[?&]sig=([\w%+/-]{20,}+=*+)"),
    Rule(
        "value of a secret name",
        _NAME_STARTS,
        rf"""{_NAME}\\?["']?\]?[ \t]{{0,8}}
            (?: (?:=>|:=|=|:)[ \t]{{0,8}}{_QUOTED}
              | (?:=>|:=|=)[ \t]{{0,8}}{_BARE}
              | >(?!{_placeholder("<")})([^\s<>$\[\]{{][^<>\[\]\n]*+)(?=</) )""",
    ),
    Rule(
        "value of a secret key, as in YAML",
        _NAME_STARTS,
        # A colon follows the name in prose too: so the value must end its line, and have a digit or a sign in
        # it or a key that begins the line. `passwd: files` is of nsswitch.conf.
        rf"""(?!(?<![\w.-])passwd:)
            (?: (?:^|(?<=[\n\t_.-])|(?<=\ \ )|(?<=-\ )) {_NAME}\\?["']?[ \t]{{0,8}}:[ \t]{{0,8}}
              | {_NAME}\\?["']?[ \t]{{0,8}}:[ \t]{{0,8}}(?=[A-Za-z]{{0,64}}+[^A-Za-z{_STOP}]) )
            (?=[^{_STOP}\[]{{1,1024}}+[ \t]{{0,8}}+(?:$|[\r\n"',}}\\])) {_BARE}""",
    ),
    Rule("SQL password", "IiWw", rf"(?i:identified[ \t]++by|with[ \t]++password)[ \t]++{_QUOTED}"),
    Rule(
        "long flag",
        "-",
        # Prose speaks of flags too. `--secret NAME` names a secret of Docker's.
        rf"""(?<![^\s"'(])-(?:-|(?!p)|(?=pass))(?:(?!{_PREFIXED})[\w-]){{0,40}}?
            (?i: password | passwd | passphrase | token | (?:api|access|auth|account)[-_]?key
               | secret[-_]?key | (?<=\w[-_])secret | (?:store|key)pass )[ \t]++
            (?!(?:option|flag|argument|parameter|switch|value|field|prompt|is|are|and|or|to|in|for|with|from|as|if
               |when|the|a|an|of)\b) (?: {_QUOTED} | {_BARE} )""",
    ),
    Rule("OpenSSL pass phrase", "-", rf"(?<!\S)-pass(?:in|out)?[ \t]++[\"']?pass:{_BARE}"),
    Rule(
        "user and password",
        "-",
        rf"""(?<!\S)(?:-(?!{_PREFIXED})[A-Za-oq-z]{{0,8}}[uU]|--user|--proxy-user)(?:[ \t]++|=)?
            (?: "{_USER}:{_CREDENTIAL_START} ([^"\n]++)
              | '{_USER}:{_CREDENTIAL_START} ([^'\n]++)
              | {_USER}:{_CREDENTIAL_START} ([^\s"'`;&|<>()]++) )""",
        commands=("curl",),
    ),
    Rule(
        "password glued to -p",
        "-",
        rf"(?<!\S)-p(?!ass)(?: {_QUOTED} | {_BARE} )",
        commands=(
            *("mysql", "mysqladmin", "mysqlbinlog", "mysqlcheck", "mysqldump", "mysqlimport", "mysqlpump"),
            *("mysqlsh", "mysqlshow", "mysqlslap", "mysql_upgrade", "mycli", "sshpass"),
            *("mariadb", "mariadb-admin", "mariadb-backup", "mariadb-dump"),
        ),
    ),
    Rule(
        "password after -p",
        "-",
        rf"(?<!\S)-p[ \t]++(?: {_QUOTED} | {_BARE} )",
        commands=(
            *("sshpass", "login"),
            *("mongo", "mongosh", "mongodump", "mongorestore", "mongoexport", "mongoimport"),
        ),
    ),
    Rule("password after -a", "-", rf"(?<!\S)-a[ \t]++(?: {_QUOTED} | {_BARE} )", commands=("redis-cli",)),
)

FLAGS: Final = re.ASCII | re.VERBOSE | re.MULTILINE

NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "PEM private key": ("-----begin",),
    "token with a prefix": (
        *("eyj", "sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "k_live_", "k_test_"),
        *("whsec_", "xox", "xapp-", "npm_", "pypi-", "aiza", "ya29.", "gocspx-", "akia", "asia", "hf_"),
        *("hvs.", "sg.", "glpat-", "gldt-", "glrt-", "glft-", "glptt-", "glsoat-", "glcbt-", "glimt-"),
        "glagent-",
    ),
    "Slack webhook": ("hooks.slack.com",),
    "authorization header": ("authorization",),
    "authorization header without a scheme": ("authorization",),
    "cookie header": ("cookie",),
    ".netrc": ("machine",),
    "bearer token": ("bearer",),
    "password in a URL": ("://",),
    "AWS secret access key": ("secret",),
    "Azure key": ("key",),
    "Azure signature": ("sig=",),
    "value of a secret name": ("pass", "pswd", "pwd", "secret", "token", "key"),
    "value of a secret key, as in YAML": ("pass", "pswd", "pwd", "secret", "token", "key"),
    "SQL password": ("identified", "pass"),
    "long flag": ("pass", "secret", "token", "key"),
    "OpenSSL pass phrase": ("pass",),
    "user and password": ("curl",),
    "password glued to -p": ("mysql", "mycli", "pass", "mariadb"),
    "password after -p": ("pass", "login", "mongo"),
    "password after -a": ("redis-cli",),
}
"""Of each rule: what it matches, with its command before it, holds one of these, in lower case. Looking for
them is a small part of the work of the rules, and most texts have none."""


FOLLOWED_BY: Final[Mapping[str, str]] = {
    "eyj": r"[\w-]{10}",
    "sk-": r"[\w-]{20}",
    "xox": r"[a-z]-",
    "npm_": r"[a-z0-9]{30}",
    "aiza": r"[\w-]{30}",
    "akia": r"[a-z0-9]{16}",
    "asia": r"[a-z0-9]{16}",
    "hf_": r"[a-z0-9]{30}",
    "sg.": r"[\w-]{16}",
}
"""What comes after some of them, in lower case: what common words end in, as `task-7` does, is no secret."""
