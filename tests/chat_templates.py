# ruff: noqa: E501  A line of a template is not broken.
"""Chat templates in the styles of known model families, and conversations.

The templates were written for these tests. Together they use every construct of
Jinja and of transformers that templates of such models use.
"""

import json
import pathlib

_TOOL = {
  'type': 'function',
  'function': {
    'name': 'weather', 'description': 'Weather of a "place" <now>',
    'parameters': {
      'type': 'object', 'properties': {'place': {'type': 'string'}},
      'required': ['place'],
    },
  },
}  # fmt: skip


def _turn(role, content, **fields):
  return {'role': role, 'content': content, **fields}


# Name -> (messages, tools, add_generation_prompt).
CONVERSATIONS = {
  'question': ([_turn('user', 'Hi there!')], None, True),
  'answered': (
    [_turn('user', ' What is 2+2? '), _turn('assistant', '4\n')], None, False
  ),
  'system': (
    [_turn('system', 'Be kind.'), _turn('user', 'na\u00efve \u96ea?')], None,
    True,
  ),
  'turns': (
    [_turn('system', 'S\n\n'), _turn('user', 'a'), _turn('assistant', 'b'),
     _turn('user', 'c'), _turn('assistant', 'd'), _turn('user', 'e')], None,
    True,
  ),
  'thoughts': (
    [_turn('user', 'a'),
     _turn('assistant', '<think>\nhm\n</think>\n\nyes'),
     _turn('user', 'b'),
     _turn('assistant', 'no', reasoning_content='ha'), ], None, False,
  ),
  'tools': (
    [_turn('user', 'Weather?'),
     _turn('assistant', '', tool_calls=[{
       'type': 'function',
       'function': {'name': 'weather', 'arguments': {'place': '\u00c5s'}}}]),
     _turn('tool', '{"rain": true}'), _turn('tool', 'dry'),
     _turn('assistant', 'Wet.')], [_TOOL], False,
  ),
  'no_content': (
    [_turn('user', 'x'), _turn('assistant', None, tool_calls=[])], None, True
  ),
}  # fmt: skip

TEMPLATES = {
  'chatml': (
    "{% for message in messages %}{{'<|start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|stop|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}"
  ),
  'chatml_generation': """
{%- for message in messages -%}
  {{- '<|start|>' + message.role + '\\n' -}}
  {%- if message.role == 'assistant' -%}
    {%- generation -%}{{- message.content + '<|stop|>' -}}{%- endgeneration -%}
    {{- '\\n' -}}
  {%- else -%}
    {{- message.content + '<|stop|>\\n' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start|>assistant\\n' -}}{%- endif -%}
""",
  'llama2': """
{%- if messages[0]['role'] == 'system' -%}
  {%- set rest = messages[1:] -%}
  {%- set lead = '<<SYS>>\\n' ~ messages[0]['content'] ~ '\\n<</SYS>>\\n\\n' -%}
{%- else -%}
  {%- set rest = messages -%}
  {%- set lead = false -%}
{%- endif -%}
{%- for m in rest -%}
  {%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}
    {{- raise_exception('roles must alternate user/assistant') -}}
  {%- endif -%}
  {%- set said = lead ~ m.content if loop.index0 == 0 and lead else m.content -%}
  {%- if m.role == 'user' -%}
    {{- bos_token ~ '[INST] ' ~ said.strip() ~ ' [/INST]' -}}
  {%- elif m.role == 'assistant' -%}
    {{- ' ' ~ said.strip() ~ ' ' ~ eos_token -}}
  {%- endif -%}
{%- endfor -%}
""",
  'llama3': """{{ bos_token }}
{%- set ns = namespace(text='', date=none) %}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set ns.text = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- endif %}
{{- "<|head|>system<|tail|>\\n\\nToday Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- ns.text }}
{{- "<|stop|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|head|>' + message['role'] + '<|tail|>\\n\\n'+ message['content'] | trim + '<|stop|>' }}
    {%- elif message.role == 'tool' %}
        {{- "<|head|>ipython<|tail|>\\n\\n" }}
        {%- if message.content is mapping or (message.content is iterable and message.content is not string) %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|stop|>" }}
    {%- else %}
        {%- for call in message.tool_calls or [] %}
            {{- '<|head|>assistant<|tail|>\\n\\n{"name": "' + call.function.name + '", "parameters": ' }}
            {{- call.function.arguments | tojson }}
            {{- "}<|stop|>" }}
        {%- endfor %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|head|>assistant<|tail|>\\n\\n' }}
{%- endif %}
""",
  'llama3_today': """{{ bos_token }}
{%- if strftime_now is defined %}
  {%- set today = strftime_now("%d %b %Y") %}
{%- else %}
  {%- set today = 'never' %}
{%- endif %}
<|head|>system<|tail|>

Today: {{ today }}<|stop|>
{%- for m in messages %}
<|head|>{{ m.role }}<|tail|>

{{ (m.content or '') | trim }}<|stop|>
{%- endfor %}
{%- if add_generation_prompt %}
<|head|>assistant<|tail|>

{% endif %}
""",
  'mistral': """{{ bos_token }}
{%- if messages[0].role == 'system' %}{% set sys = messages[0].content %}{% set loop_messages = messages[1:] %}
{%- else %}{% set loop_messages = messages %}{% endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
  {%- if message.role == 'user' %}
    {%- if tools is not none and message == user_messages[-1] %}
      {{- '[TOOLS] [' }}
      {%- for tool in tools %}
        {%- set tool = tool.function %}
        {{- '{"type": "function", "function": {' }}
        {%- for key, val in tool.items() if key != 'return' %}
          {%- if val is string %}{{- '"' + key + '": "' + val + '"' }}
          {%- else %}{{- '"' + key + '": ' + val|tojson }}{% endif %}
          {%- if not loop.last %}{{- ', ' }}{% endif %}
        {%- endfor %}
        {{- '}}' }}{%- if not loop.last %}{{- ', ' }}{%- else %}{{- ']' }}{%- endif %}
      {%- endfor %}
      {{- '[/TOOLS]' }}
    {%- endif %}
    {%- if loop.last and sys is defined %}{{- '[INST] ' + sys + '\\n\\n' + message.content + '[/INST]' }}
    {%- else %}{{- '[INST] ' + message.content + '[/INST]' }}{% endif %}
  {%- elif message.tool_calls is defined and message.tool_calls is not none %}
    {{- '[CALLS] ' }}{{- message.tool_calls | map(attribute='function') | list | tojson }}{{- eos_token }}
  {%- elif message.role == 'assistant' %}{{- ' ' + message.content|trim + eos_token }}
  {%- elif message.role in ['tool', 'tool_results'] %}
    {%- set content = message.content if message.content is string else message.content.content %}
    {{- '[RESULTS] {"content": ' + content|string + '}[/RESULTS]' }}
  {%- else %}{{- raise_exception('Only user, system and assistant roles') }}{% endif %}
{%- endfor %}
""",
  'qwen2': """{%- if tools %}
    {{- '<|start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{% else %}{{- 'You are helpful.\\n\\n' }}{% endif %}
    {{- "# Tools\\n<tools>" }}
    {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{% endfor %}
    {{- "\\n</tools><|stop|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|start|>system\\n' + messages[0]['content'] + '<|stop|>\\n' }}
    {%- else %}
        {{- '<|start|>system\\nYou are helpful.<|stop|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|start|>' + message.role + '\\n' + message.content + '<|stop|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|start|>' + message.role }}
        {%- if message.content %}{{- '\\n' + message.content }}{% endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}{% set tool_call = tool_call.function %}{% endif %}
            {{- '\\n<call>\\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}{{- tool_call.arguments | tojson }}{{- '}\\n</call>' }}
        {%- endfor %}
        {{- '<|stop|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}{{- '<|start|>user' }}{% endif %}
        {{- '\\n<response>\\n' }}{{- message.content }}{{- '\\n</response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|stop|>\\n' }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant\\n' }}{% endif %}
""",
  'qwen3': """{%- if messages[0].role == 'system' %}{{- '<|start|>system\\n' + messages[0].content + '<|stop|>\\n' }}{% endif %}
{%- set ns = namespace(multi_step=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == "user" and message.content is string and not(message.content.startswith('<response>') and message.content.endswith('</response>')) %}
        {%- set ns.multi_step = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}{% set content = message.content %}{% else %}{% set content = '' %}{% endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|start|>' + message.role + '\\n' + content + '<|stop|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or (not loop.last and reasoning)) %}
            {{- '<|start|>' + message.role + '\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|stop|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}
""",
  'gemma': """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}{{ raise_exception('System role not supported') }}{%- endif -%}
{%- for message in messages -%}
  {%- if (message['role'] == 'assistant') -%}{%- set role = 'model' -%}{%- else -%}{%- set role = message['role'] -%}{%- endif -%}
  {{ '<|start|>' + role + '\\n' + (message['content'] | default('', true) | trim) + '<|stop|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{'<|start|>model\\n'}}{%- endif -%}
""",
  'gemma3': """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}{%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- else -%}{%- set first_user_prefix = messages[0]['content'][0]['text'] + '\\n\\n' -%}{%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<|start|>' + role + '\\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}{{ '<image>' }}
            {%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ '<|stop|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start|>model\\n' }}{%- endif -%}
""",
  'smollm': """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|start|>system\\nYou are small.<|stop|>\\n' }}{% endif %}{{'<|start|>' + message['role'] + '\\n' + message['content'] + '<|stop|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}""",
  'smollm3': """
{#- Modes and defaults. #}
{%- if enable_thinking is not defined -%}{%- set enable_thinking = true -%}{%- endif -%}
{%- set mode = "/think" if enable_thinking else "/no_think" -%}
{%- set custom = '' -%}
{%- if messages[0].role == "system" -%}
  {%- set custom = messages[0].content.replace("/no_think", "").replace("/think", "").rstrip() -%}
  {%- if "/no_think" in messages[0].content -%}{%- set mode = "/no_think" -%}{%- endif -%}
{%- endif -%}
{{- "<|start|>system\\n" -}}
{{- "## Metadata\\n\\n" -}}
{%- set today = strftime_now("%d %B %Y") -%}
{{- "Today Date: " ~ today ~ "\\n" -}}
{{- "Mode: " + mode + "\\n\\n" -}}
{%- if custom -%}{{- custom + "\\n\\n" -}}{%- elif mode == "/think" -%}{{- "Think first.\\n\\n" -}}{%- endif -%}
{%- if xml_tools or tools -%}
  {%- set ns = namespace(xml="Tools:\\n<tools>\\n") -%}
  {%- for tool in (xml_tools or tools)[:] -%}
    {%- set ns.xml = ns.xml ~ (tool | string) ~ "\\n" -%}
  {%- endfor -%}
  {{- ns.xml + "</tools>\\n" -}}
{%- endif -%}
{{- "<|stop|>\\n" -}}
{%- for message in messages -%}
    {%- set content = message.content if message.content is string else "" -%}
    {%- if message.role == "user" -%}
        {{ "<|start|>" + message.role + "\\n"  + content + "<|stop|>\\n" }}
    {%- elif message.role == "assistant" -%}
        {% generation %}
        {%- if mode == "/think" -%}
            {{ "<|start|>assistant\\n" + content.lstrip("\\n") + "<|stop|>\\n" }}
        {%- else -%}
            {{ "<|start|>assistant\\n" + "<think>\\n\\n</think>\\n" + content.lstrip("\\n") + "<|stop|>\\n" }}
        {%- endif -%}
        {% endgeneration %}
    {%- elif message.role == "tool" -%}
        {{ "<|start|>" + "user\\n"  + content + "<|stop|>\\n" }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {%- if mode == "/think" -%}{{ "<|start|>assistant\\n" }}{%- else -%}{{ "<|start|>assistant\\n" + "<think>\\n\\n</think>\\n"  }}{%- endif -%}
{%- endif -%}
""",
  'zephyr': """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",
  'olmo': """{{ eos_token }}{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",
  'olmo2': """{{ bos_token }}{%- for m in messages -%}
{%- if m.role == 'assistant' -%}
{%- if not loop.last -%}{{ '<|assistant|>\\n' + m.content + eos_token + '\\n' }}{%- else -%}{{ '<|assistant|>\\n' + m.content + eos_token }}{%- endif -%}
{%- else -%}{{ '<|' ~ m.role ~ '|>\\n' ~ m.content ~ '\\n' }}{%- endif -%}
{%- if loop.last and add_generation_prompt -%}{{ '<|assistant|>\\n' }}{%- endif -%}
{%- endfor -%}""",
  'phi3': """{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\\n' + message['content'] + '<|stop|>\\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\\n' + message['content'] + '<|stop|>\\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\\n' + message['content'] + '<|stop|>\\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}""",
  'phi4': """{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and message['tools'] is not none %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + message['tools'] + '<|/tool|>' + '<|stop|>' }}{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|stop|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}""",
  'macros': """
{%- macro render(content, trimmed=false) -%}
  {%- if content is string -%}{{- content.strip() if trimmed else content -}}
  {%- elif content is none or content is undefined -%}{{- '' -}}
  {%- else -%}
    {%- for item in content -%}{{- item.text if 'text' in item else raise_exception('bad part') -}}{%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{%- macro wrap(role) -%}<|start|>{{ role }}
{{ caller() }}<|stop|>
{% endmacro -%}
{%- for message in messages -%}
  {% call wrap(message.role) %}{{ render(message.content, trimmed=loop.first) }}{% endcall %}
{%- endfor -%}
{% if add_generation_prompt %}<|start|>assistant
{% endif %}""",
  'breaks': """
{%- for message in messages -%}
  {%- if message.role == 'system' %}{% continue %}{% endif -%}
  {%- if loop.index > 4 %}{% break %}{% endif -%}
  {{- '<|start|>' ~ message.role ~ ' ' ~ loop.index ~ '/' ~ loop.length ~ ':' ~ loop.cycle('x', 'y') ~ ' ' ~ (message.content or '-') ~ '<|stop|>' -}}
{%- else -%}
  nobody
{%- endfor -%}
{{- '<|start|>assistant' if add_generation_prompt }}""",
  'json': """
{%- for m in messages %}
{{ {'role': m.role, 'text': m.content, 'n': loop.index, 'ok': true, 'none': none, 'f': 1.5} | tojson(indent=2, ensure_ascii=true, sort_keys=True) }}
{{ [m.role, m.content, 'a<b>&\\'"'] | tojson(separators=(',', ':')) }}
<|stop|>
{%- endfor %}""",
  'blocks': """
{%- set intro %}
Hello {{ messages | length }} of {{ messages | map(attribute='role') | unique | join(', ') }}
{% endset -%}
{%- set ns = namespace(seen=[], total=0) -%}
{%- for m in messages -%}
  {%- set ns.seen = ns.seen + [m.role] -%}
  {%- set ns.total = ns.total + (m.content or '') | length -%}
{%- endfor -%}
{{ intro | upper }}{% filter replace('a', 'A') %}{{ ns.seen | join('-') }} {{ ns.total }}{% endfilter %}
{% with x = 3, y = x %}{{ x }}{{ y }}{% endwith %}
{% raw %}{{ not this }}{% endraw %}
{% for m in messages if m.role != 'system' %}
  {{ loop.index }}. {{ '%s=%s' | format(m.role, m.content) }} {{ "{:>8}|{}".format(m.role, loop.revindex) }}<|stop|>
{% endfor %}
{% if add_generation_prompt %}{{ '-' * 5 }}<|start|>assistant{% endif %}
""",
  'spaces': """
   {% if true %}
   one
   {% endif %}
\t{# comment #}
   {%+ if true %} two {% endif +%}
{% for m in messages %}
    <|start|>{{ m.role }}:
      {{ m.content }}<|stop|>
  {% endfor %}

 end
""",
  'special': """{{ bos_token }}{{ unk_token }}{{ pad_token }}{% if sep_token is defined %}{{ sep_token }}{% endif %}{% if cls_token %}{{ cls_token }}{% endif %}{{ documents }}{{ tools is none }}
{%- for m in messages %}{{ m.role[0] | upper ~ m.role[1:] }}: {{ m.content }}{{ eos_token }}{% endfor %}""",
  'recursive': """
{%- macro shape(value, depth=0) -%}
  {%- if value is mapping -%}{ {%- for k, v in value | dictsort %}{{ k }}:{{ shape(v, depth + 1) }}{{ ',' if not loop.last }}{% endfor -%} }
  {%- elif value is sequence and value is not string -%}[{% for v in value %}{{ shape(v, depth + 1) }}{% endfor %}]
  {%- else -%}{{ value }}@{{ depth }}{%- endif -%}
{%- endmacro -%}
{%- for m in messages %}<|start|>{{ shape(m) }}{{ m.content }}<|stop|>{% endfor -%}
{%- if tools %}{{ shape(tools) }}{% endif %}""",
  'deepseek': """{%- if not add_generation_prompt is defined -%}{%- set add_generation_prompt = false -%}{%- endif -%}
{%- set ns = namespace(is_first=false, is_tool=false, system_prompt='', is_first_sp=true) -%}
{%- for message in messages -%}{%- if message['role'] == 'system' -%}
{%- if ns.is_first_sp -%}{%- set ns.system_prompt = ns.system_prompt + message['content'] -%}{%- set ns.is_first_sp = false -%}
{%- else -%}{%- set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] -%}{%- endif -%}{%- endif -%}{%- endfor -%}
{{- bos_token -}}{{- ns.system_prompt -}}
{%- for message in messages -%}
{%- set content = message['content'] or '' -%}
{%- if message['role'] == 'user' -%}{%- set ns.is_tool = false -%}{{- '<|user|>' + content -}}{%- endif -%}
{%- if message['role'] == 'assistant' and not message['tool_calls'] -%}
{%- if '</think>' in content -%}{%- set content = content.split('</think>')[-1] -%}{%- endif -%}
{{- '<|assistant|>' + content + '<|stop|>' -}}{%- endif -%}
{%- if message['role'] == 'tool' -%}{%- set ns.is_tool = true -%}{{- '<|out|>' + content -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and not ns.is_tool -%}{{- '<|assistant|><think>\\n' -}}{%- endif -%}""",
}
# Templates whose text does not depend on the date, and what transformers 5.24
# renders: 'template/conversation' -> text, None if the template fails.
FIXED = [name for name in TEMPLATES if 'strftime' not in TEMPLATES[name]]
RENDERED = json.loads(
  (pathlib.Path(__file__).parent / 'data/rendered_templates.json').read_text()
)
