"""Translates the PTX of a kernel, of the small subset that the kernels use, to C++ that runs one CUDA thread."""

from __future__ import annotations

import re
import sys
from pathlib import Path

TYPES = {"u8": "uint8_t", "s8": "int8_t", "b8": "uint8_t", "u16": "uint16_t", "s16": "int16_t", "b16": "uint16_t",
         "u32": "uint32_t", "s32": "int32_t", "b32": "uint32_t", "u64": "uint64_t", "s64": "int64_t", "b64": "uint64_t",
         "f32": "float", "f64": "double", "pred": "int"}
SPECIAL = {f"%{ptx}.{axis}": f"c->{name}{axis}" for ptx, name in (
    ("tid", "t"), ("ctaid", "b"), ("ntid", "nt"), ("nctaid", "nb")) for axis in "xyz"}
COMPARED = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lo": "<", "ls": "<=", "hi": ">",
            "hs": ">="}
ARITHMETIC = {"add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|", "xor": "^"}
FIRST_SHARED, REDZONE = 4096, 1024  # addresses around shared arrays that belong to none


class UnknownError(Exception):
    """PTX that the translator does not know."""


def size_of(kind: str) -> int:
    return 1 if kind == "pred" else int(kind[1:]) // 8


def operands_of(text: str) -> list[str]:
    """Split at commas outside brackets."""
    found, depth = [""], 0
    for character in text:
        depth += (character in "[{(") - (character in "]})")
        if character == "," and depth == 0:
            found.append("")
        else:
            found[-1] += character
    return [operand.strip() for operand in found if operand.strip()]


def register(name: str) -> str:
    return name.replace("%", "R_").replace(".", "_")


def signed(kind: str, sign: str) -> str:
    return sign + kind[1:]


class Kernel:
    """A kernel: its parameters, its shared arrays and the statements of its body."""

    def __init__(self, name: str, parameters: list[tuple[str, str]], body: str, shared: dict[str, int]) -> None:
        self.name = name
        self.parameters: list[tuple[int, int]] = []  # offset and size
        self.offsets: dict[str, int] = {}
        end = 0
        for kind, parameter in parameters:
            size = size_of(kind)
            end = -(-end // size) * size
            self.offsets[parameter] = end
            self.parameters.append((end, size))
            end += size
        self.parameter_bytes = end
        self.shared: dict[str, tuple[int, int]] = {}
        self.shared_bytes = FIRST_SHARED
        for array, size in shared.items():
            self.shared[array] = self.shared_bytes, size
            self.shared_bytes += -(-size // 128) * 128 + REDZONE
        self.kinds: dict[str, str] = {}  # of registers, by what their names begin with
        self.declared: list[str] = []
        self.statements: list[str] = []
        self.lines: list[str] = []  # of PTX, whose numbers the checker reports
        for line in (raw.split("//")[0].strip() for raw in body.split("\n")):
            self._take(line)

    def _take(self, line: str) -> None:
        if not line or line in "{}" or line.startswith((".shared", ".pragma", ".loc")):
            return
        if found := re.match(r"\.reg\s+\.(\w+)\s+%(\w+)<(\d+)>;", line):
            kind, name, count = found.groups()
            self.kinds[name] = kind
            self.declared += [f"{TYPES[kind]} R_{name}{n} = 0;" for n in range(int(count))]
        elif line.startswith("."):
            raise UnknownError(line)
        elif found := re.match(r"([$\w]+):\s*$", line):
            self.statements.append(f"L_{found.group(1).replace('$', '_')}: ;")
        else:
            self._instruction(line)
            self.lines.append(line)

    def _instruction(self, line: str) -> None:
        condition = ""
        text = line.rstrip(";").strip()
        if found := re.match(r"@(!?)(%p\d+)\s+(.*)$", text):
            condition, text = f"if ({found.group(1)}{register(found.group(2))}) ", found.group(3)
        operation, _, rest = text.partition(" ")
        head, *parts = operation.split(".")
        operands = operands_of(rest)
        kind = parts[-1] if parts else ""
        translate = getattr(self, f"op_{head}", None)
        code = translate(parts, operands, kind) if translate else None
        if code is None:
            raise UnknownError(line)
        self.statements.append(f"  {condition}{{ {code} }}")

    # Operands

    def _kind_of(self, name: str) -> str:
        found = re.match(r"%([a-z]+)\d+$", name)
        if not found:
            raise UnknownError(f"register {name}")
        return self.kinds[found.group(1)]

    def _value(self, operand: str, kind: str) -> str:
        """Return an operand, read as a kind of number."""
        kind_in_c = TYPES[kind]
        if operand in SPECIAL:
            return f"(({kind_in_c})(uint32_t){SPECIAL[operand]})"
        if operand.startswith("%"):
            own, name = self._kind_of(operand), register(operand)
            if own == kind:
                return name
            if "f64" in (own, kind):
                raise UnknownError(f"{operand} as {kind}")
            if kind == "f32":
                return f"bits2f32({name})"
            return f"(({kind_in_c})f2bits({name}))" if own == "f32" else f"(({kind_in_c})({name}))"
        if operand.startswith("0f"):
            return f"bits2f32(0x{operand[2:]}u)" if kind == "f32" else f"(({kind_in_c})0x{operand[2:]}u)"
        if operand == "-9223372036854775808":
            return "((int64_t)0x8000000000000000ull)"
        if re.fullmatch(r"-?\d+", operand):
            return f"(({kind_in_c})({operand}LL))"
        if re.fullmatch(r"-?0x[0-9a-fA-F]+", operand):
            return f"(({kind_in_c})({operand}ull))"
        if operand in self.shared:
            return f"(({kind_in_c}){self.shared[operand][0]})"
        raise UnknownError(f"operand {operand}")

    def _set(self, target: str, value: str, kind: str) -> str:
        """Return the assignment of a value of a kind to a register, which may have another."""
        own, name = self._kind_of(target), register(target)
        if own == kind == "f32":
            return f"{name} = {value};"
        if own == "f32":
            return f"{name} = bits2f32((uint32_t)({value}));"
        if own == "pred":
            return f"{name} = ({value}) != 0;"
        if kind == "f32":
            return f"{name} = f2bits({value});"
        return f"{name} = ({TYPES[own]})({TYPES[kind]})({value});"  # extended by the sign of the instruction

    def _address(self, operand: str) -> str:
        found = re.fullmatch(r"\[\s*([%\w$.]+)\s*(?:\+\s*(-?\d+))?\s*\]", operand)
        if not found:
            raise UnknownError(f"address {operand}")
        base, offset = found.group(1), int(found.group(2) or 0)
        if base.startswith("%"):
            return f"({register(base)} + (int64_t){offset})"
        if base in self.shared:
            return f"((uint64_t){self.shared[base][0]} + {offset})"
        raise UnknownError(f"address {operand}")

    # Instructions: parts behind the name, operands, the last part. None is what is not known.

    def op_bra(self, parts: list[str], o: list[str], kind: str) -> str | None:
        return f"goto L_{o[0].replace('$', '_')};"

    def op_ret(self, parts: list[str], o: list[str], kind: str) -> str | None:
        return "return;"

    op_exit = op_ret

    def _space(self, parts: list[str]) -> str:
        spaces = [part for part in parts if part in ("global", "shared")]
        if len(spaces) != 1 or "v2" in parts or "v4" in parts:
            raise UnknownError(".".join(parts))
        return spaces[0]

    def op_ld(self, parts: list[str], o: list[str], kind: str) -> str | None:
        if "param" in parts:
            return self._set(o[0], f"*({TYPES[kind]}*)(c->params + {self.offsets[o[1].strip('[]')]})", kind)
        return self._set(
            o[0], f"ld_{self._space(parts)}<{TYPES[kind]}>(c, {self._address(o[1])}, {len(self.lines)})", kind)

    def op_st(self, parts: list[str], o: list[str], kind: str) -> str | None:
        return (f"st_{self._space(parts)}<{TYPES[kind]}>(c, {self._address(o[0])}, {self._value(o[1], kind)}, "
                f"{len(self.lines)});")

    def op_mov(self, parts: list[str], o: list[str], kind: str) -> str | None:
        return self._set(o[0], self._value(o[1], kind), kind)

    op_cvta = op_mov

    def _two(self, name: str, o: list[str], kind: str) -> str:
        if kind not in ("f32", "pred"):
            kind = signed(kind, "u")
        return self._set(o[0], f"{self._value(o[1], kind)} {ARITHMETIC[name]} {self._value(o[2], kind)}", kind)

    def op_add(self, parts: list[str], o: list[str], kind: str) -> str | None:
        return self._two("add", o, kind)

    def op_sub(self, parts: list[str], o: list[str], kind: str) -> str | None:
        return self._two("sub", o, kind)

    def op_and(self, parts: list[str], o: list[str], kind: str) -> str | None:
        return self._two("and", o, kind)

    def op_or(self, parts: list[str], o: list[str], kind: str) -> str | None:
        return self._two("or", o, kind)

    def op_xor(self, parts: list[str], o: list[str], kind: str) -> str | None:
        return self._two("xor", o, kind)

    def op_mul(self, parts: list[str], o: list[str], kind: str) -> str | None:
        if kind == "f32" or "lo" in parts:
            return self._two("mul", o, kind)
        return self._wide(o, kind, "") if "wide" in parts else None

    def op_mad(self, parts: list[str], o: list[str], kind: str) -> str | None:
        if "lo" in parts:
            kind = signed(kind, "u")
            a, b, c = (self._value(operand, kind) for operand in o[1:])
            return self._set(o[0], f"{a} * {b} + {c}", kind)
        return self._wide(o, kind, self._value(o[3], f"{kind[0]}{2 * int(kind[1:])}")) if "wide" in parts else None

    def _wide(self, o: list[str], kind: str, more: str) -> str:
        wide = f"{kind[0]}{2 * int(kind[1:])}"
        product = f"({TYPES[wide]}){self._value(o[1], kind)} * ({TYPES[wide]}){self._value(o[2], kind)}"
        return self._set(o[0], f"{product} + {more}" if more else product, wide)

    def op_fma(self, parts: list[str], o: list[str], kind: str) -> str | None:
        if kind != "f32":
            return None
        return self._set(o[0], f"__builtin_fmaf({', '.join(self._value(operand, kind) for operand in o[1:])})", kind)

    def op_neg(self, parts: list[str], o: list[str], kind: str) -> str | None:
        return self._set(o[0], f"-{self._value(o[1], kind)}", kind)

    def op_not(self, parts: list[str], o: list[str], kind: str) -> str | None:
        return self._set(o[0], f"{'!' if kind == 'pred' else '~'}{self._value(o[1], kind)}", kind)

    def op_min(self, parts: list[str], o: list[str], kind: str, *, name: str = "min") -> str | None:
        a, b = self._value(o[1], kind), self._value(o[2], kind)
        if kind == "f32":
            return self._set(o[0], f"f{name}_({a}, {b})", kind)
        return self._set(o[0], f"{a} {'<' if name == 'min' else '>'} {b} ? {a} : {b}", kind)

    def op_max(self, parts: list[str], o: list[str], kind: str) -> str | None:
        return self.op_min(parts, o, kind, name="max")

    def _approximate(self, parts: list[str], value: str) -> str:
        return f"approx(c, {value})" if {"approx", "full"} & set(parts) else value

    def op_div(self, parts: list[str], o: list[str], kind: str) -> str | None:
        value = f"{self._value(o[1], kind)} / {self._value(o[2], kind)}"
        return self._set(o[0], self._approximate(parts, value), kind)

    def op_rem(self, parts: list[str], o: list[str], kind: str) -> str | None:
        return self._set(o[0], f"{self._value(o[1], kind)} % {self._value(o[2], kind)}", kind)

    def op_sqrt(self, parts: list[str], o: list[str], kind: str) -> str | None:
        return self._set(o[0], self._approximate(parts, f"sqrtf({self._value(o[1], kind)})"), kind)

    def op_rcp(self, parts: list[str], o: list[str], kind: str) -> str | None:
        return self._set(o[0], f"approx(c, 1.0f / {self._value(o[1], kind)})", kind)

    def op_shl(self, parts: list[str], o: list[str], kind: str) -> str | None:
        count = self._value(o[2], "u32")
        return self._set(o[0], f"({count} >= {8 * size_of(kind)} ? 0 : {self._value(o[1], kind)} << {count})", kind)

    def op_shr(self, parts: list[str], o: list[str], kind: str) -> str | None:
        value, count, bits = self._value(o[1], kind), self._value(o[2], "u32"), 8 * size_of(kind)
        if kind[0] == "s":
            return self._set(o[0], f"{value} >> ({count} >= {bits} ? {bits - 1} : {count})", kind)
        return self._set(o[0], f"({count} >= {bits} ? 0 : {value} >> {count})", kind)

    def op_selp(self, parts: list[str], o: list[str], kind: str) -> str | None:
        return self._set(o[0], f"{register(o[3])} ? {self._value(o[1], kind)} : {self._value(o[2], kind)}", kind)

    def op_setp(self, parts: list[str], o: list[str], kind: str) -> str | None:
        test, a, b = parts[0], self._value(o[1], kind), self._value(o[2], kind)
        if kind == "f32" and test.endswith("u") and test[:-1] in COMPARED:  # true of NaN
            value = f"(isnan({a}) || isnan({b}) || {a} {COMPARED[test[:-1]]} {b})"
        elif kind == "f32" and test == "ne":
            value = f"(!isnan({a}) && !isnan({b}) && {a} != {b})"
        elif test in COMPARED:
            value = f"({a} {COMPARED[test]} {b})"
        else:
            return None
        if len(parts) > 2 and parts[1] in ("and", "or", "xor"):
            joined = {"and": "&&", "or": "||", "xor": "^"}[parts[1]]
            value = f"({value} {joined} {'!' if o[3].startswith('!') else ''}{register(o[3].lstrip('!'))})"
        target, *opposite = map(register, o[0].split("|"))
        return f"{target} = {value};" + (f" {opposite[0]} = !{target};" if opposite else "")

    def op_cvt(self, parts: list[str], o: list[str], kind: str) -> str | None:
        target, value = parts[-2], self._value(o[1], kind)
        if kind != "f32":
            return self._set(o[0], f"({TYPES[target]}){value}", target)
        if target == "f32" or not {"rzi", "rmi"} & set(parts):
            return None
        return self._set(o[0], f"cvt_f2i<{TYPES[target]}>({value}, {1 if 'rzi' in parts else 2})", target)

    def op_bar(self, parts: list[str], o: list[str], kind: str) -> str | None:
        return f"bar(c, {len(self.lines)});" if (parts, o) == (["sync"], ["0"]) else None

    op_barrier = op_bar

    def op_membar(self, parts: list[str], o: list[str], kind: str) -> str | None:
        return f"membar(c, {len(self.lines)});"

    op_fence = op_membar

    def op_atom(self, parts: list[str], o: list[str], kind: str) -> str | None:
        name = next((name for name in ("inc", "add") if name in parts), None)
        if "global" not in parts or name is None:
            return None
        value = f"atom_{name}(c, {self._address(o[1])}, {self._value(o[2], kind)}, {len(self.lines)})"
        return self._set(o[0], value, kind)

    def op_red(self, parts: list[str], o: list[str], kind: str) -> str | None:
        if "add" not in parts:
            return None
        return f"atom_add(c, {self._address(o[0])}, {self._value(o[1], kind)}, {len(self.lines)});"


def kernels_of(ptx: str) -> list[Kernel]:
    if ".func" in re.sub(r"//.*", "", ptx):
        raise UnknownError(".func: a device function that is not inlined")
    shared = {name: int(size) for name, size in re.findall(
        r"^\s*(?:\.(?:visible|extern|weak)\s+)?\.shared\s+\.align\s+\d+\s+\.b8\s+(\w+)\[(\d+)\];", ptx, re.M)}
    entries = re.finditer(r"\.visible\s+\.entry\s+(\S+?)\(\s*(.*?)\)\s*(?:\.[^\{]*)?\{(.*?)\n\}", ptx, re.S)
    parameter = r"\.param\s+\.(\w+)\s+(?:\.ptr\s+)?(?:\.global\s+)?(?:\.align\s+\d+\s+)?(\w+)"
    return [Kernel(entry.group(1), re.findall(parameter, entry.group(2)), entry.group(3), shared) for entry in entries]


def c_source(ptx: str) -> str:
    """Return the C++ of the only kernel of a module, for `fakecuda.cpp` to load."""
    (kernel,) = kernels_of(ptx)
    quoted = (line.replace("\\", "\\\\").replace('"', '\\"')[:90] for line in kernel.lines)
    lines = ",\n".join(f'"{line}"' for line in quoted)
    arrays = ",".join(f"{{{start},{size}}}" for start, size in kernel.shared.values()) or "{0,0}"
    offsets = ",".join(f"{start},{size}" for start, size in kernel.parameters) or "0"
    declared, statements = "\n  ".join(kernel.declared), "\n".join(kernel.statements)
    return f"""#include "emu.h"
static void body(Ctx *c) {{
  {declared}
{statements}
  return;
}}
static const char *lines[] = {{{lines}}};
static const SharedArray arrays[] = {{{arrays}}};
static const int offsets[] = {{{offsets}}};
extern "C" const KernelInfo kernel_info = {{
  "{kernel.name}", body, {kernel.parameter_bytes}, {len(kernel.parameters)}, offsets,
  {kernel.shared_bytes}, {len(kernel.shared)}, arrays, {len(kernel.lines)}, lines }};
"""


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(argument, len(c_source(Path(argument).read_text())))
