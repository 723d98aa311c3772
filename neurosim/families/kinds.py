"""Families of kinds: what a scenario can name, described once and open from outside.

A family is a base class (`Rule`, `Schedule`, …) and its members by name. A member is a frozen
dataclass. Its fields, with their annotations, are all that describes it: Python checks the
arguments by them, a document is parsed by them, the JSON Schema and the tables of the docs are made
of them.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, partial
from importlib import import_module
from types import UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PydanticSchemaGenerationError,
    TypeAdapter,
    create_model,
)
from pydantic.fields import FieldInfo

from neurosim.base import ConfigurationError, PluginError, unknown
from neurosim.families.checks import Described

T = TypeVar("T", bound=type)
FAMILIES: dict[str, Family] = {}
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Written:
    """Says what a document may hold in place of a value that only Python can hold.

    ``Annotated[float | Tensor, Written(float | list[Any])]``. What stands there before it is for
    Python alone, what follows for both.
    """

    annotation: Any


class Family(dict[str, Any]):
    """The members of a family by name, in alphabetical order whatever registered them first.

    ``title`` is what messages call a member, ``key`` the key that names one in a document. A member
    without required fields may stand there as its bare name where ``bare`` is set, and ``default``
    is the member that keys without a name belong to. ``registered`` are the names in the order in
    which they were added.
    """

    def __init__(
        self, title: str, base: type[Kind], key: str, *, bare: bool, default: str | None
    ) -> None:
        super().__init__()
        self.title, self.base, self.key, self.bare, self.default = title, base, key, bare, default
        self.registered: list[str] = []

    def __missing__(self, name: str) -> Any:
        raise ConfigurationError(self.reserved(name) or unknown(self.title, name, self), self.title)

    def reserved(self, name: str) -> str:
        """Says what a name stands for that no member can have."""
        known = self.base.taken
        return f"no {self.title} can be {name!r}, which is {known[name]}" if name in known else ""

    @property
    def choice(self) -> str:
        """What a document chooses by the key: "which rule: backprop, chl, …"."""
        said = f"which {self.title.replace('_', ' ')}: {', '.join(self)}"
        return f"{said}; default: {self.default}" if self.default else said

    def add(self, name: str, member: Any) -> None:
        """Adds a member. Raises PluginError, with its file and line, where it cannot be one."""
        said = f"the {self.title} {name!r}"
        if not _NAME.fullmatch(name):
            raise _broken(member, f"the name {name!r} must be lower case letters, digits and _")
        if why := self.reserved(name):
            raise _broken(member, f"{why}; name it otherwise")
        if (other := self.get(name)) and not _again(other, member):
            raise _broken(member, f"{said} exists already ({where(other)})")
        if missing := sorted(getattr(member, "__abstractmethods__", ())):
            raise _broken(member, f"{said} lacks {', '.join(missing)}")
        if not getattr(vars(member).get("__dataclass_params__"), "frozen", False):
            raise _broken(member, f"{said} must be a frozen dataclass")
        for field in fields(member):
            if field.name in (self.key, *self.base.reserved):
                said += f" has a field {field.name}, which means something else in a document"
                raise _broken(member, f"{said}; name it otherwise")
        members = sorted({**self, name: member}.items())
        self.clear()
        self.update(members)
        self.registered.append(name)
        member.kind = name
        model_of.cache_clear()
        if member.__module__.split(".")[0] != "neurosim":  # ours are described when they are used
            try:
                model_of(member)
            except PluginError:
                self.remove(name)
                raise

    def remove(self, name: str) -> None:
        """Takes a member out again, as a test of a plugin does."""
        del self[name]
        self.registered.remove(name)
        model_of.cache_clear()


class Kind(Described):
    """Base of the base classes of families: ``class Rule(Kind, family="rule")``.

    ``given`` names the fields that no document says, because whoever makes the object knows them,
    and ``reserved`` the names that no field can have, because a document says something else there.
    ``taken`` are names that no member can have, with what they stand for.
    ``neurosim check`` tries an instance of default values, or those that a classmethod
    ``example()`` of the member returns: one or a list, for populations "h1", "h2" and "output".
    """

    family: ClassVar[Family]
    kind: ClassVar[str]
    given: ClassVar[tuple[str, ...]] = ()
    reserved: ClassVar[tuple[str, ...]] = ()
    taken: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(
        cls,
        *,
        family: str | None = None,
        key: str = "kind",
        bare: bool = False,
        default: str | None = None,
        **options: Any,
    ) -> None:
        super().__init_subclass__(**options)
        if family is not None:
            if family in FAMILIES:
                raise _broken(cls, f"there is a family {family!r} already")
            cls.family = FAMILIES[family] = Family(family, cls, key, bare=bare, default=default)

    def __new__(cls, *args: Any, **options: Any) -> Self:
        del args, options
        if cls is cls.family.base:
            said = f"{cls.__name__} is the base class of a family; use a member: "
            raise ConfigurationError(said + ", ".join(cls.family), cls.family.title)
        return super().__new__(cls)

    @classmethod
    def of(cls, value: object, **options: Any) -> Self:
        """Makes a member of its name and its ``options``, or returns a member as it is."""
        if isinstance(value, str):
            member = cls.family[value]
            known = [field.name for field in fields(member)]
            for name in options:
                if name not in known:
                    said = unknown(f"option of the {cls.family.title} {value!r}:", name, known)
                    raise ConfigurationError(said, name)
            required = [f.name for f in fields(member) if f.default is f.default_factory is MISSING]
            if missing := [name for name in required if name not in options]:
                said = f"the {cls.family.title} {value!r} needs {', '.join(missing)}: use "
                said += f"{member.__name__}(...) with its options"
                raise ConfigurationError(said, cls.family.title)
            value = member(**options)
        if not isinstance(value, cls):
            title = cls.family.title
            said = f"the {title} must be a {cls.__name__} or one of {', '.join(cls.family)}"
            raise ConfigurationError(f"{said}, not {value!r}", title)
        return value

    @classmethod
    def all_of(cls, values: object) -> tuple[Self, ...]:
        """Makes members of names, as `of` does; of a name or a member alone it is one."""
        alone = isinstance(values, str | cls) or not isinstance(values, Iterable)
        found: Iterable[object] = (values,) if alone else values  # type: ignore[assignment]
        return tuple(cls.of(value) for value in found)


def register(name: str) -> Callable[[T], T]:
    """Decorates a frozen dataclass that becomes the member ``name`` of its base class's family."""

    def add(member: T) -> T:
        family = getattr(member, "family", None)
        if not isinstance(family, Family):
            bases = ", ".join(family.base.__name__ for family in FAMILIES.values())
            raise _broken(member, f"{member.__name__} derives from none of {bases}")
        family.add(name, member)
        return member

    return add


def gather(folder: str) -> None:
    """Imports all modules of a folder, so that a new file is enough to register a member."""
    for module in pkgutil.iter_modules(import_module(folder).__path__):  # in alphabetical order
        import_module(f"{folder}.{module.name}")


def described(value: Any) -> Any:
    """Returns what a document says to make this object: mappings, lists, numbers and text."""
    if is_dataclass(value) and not isinstance(value, type):
        said = {
            field.name: described(getattr(value, field.name)) for field in fields_of(type(value))
        }
        if isinstance(value, Kind):
            if value.family.bare and not said:
                return value.kind
            return {value.family.key: value.kind, **said}
        return said
    if isinstance(value, Mapping):
        return {key: described(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    return [described(item) for item in value] if isinstance(value, list | tuple) else value


# ---- models of documents -------------------------------------------------------------------------


class Section(BaseModel):
    """A part of a document. Unknown keys are errors, and text is no number.

    ``elsewhere`` says of keys that are unknown here what they belong to.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())
    makes: ClassVar[type[Any]]
    elsewhere: ClassVar[Mapping[str, str]] = {}


@cache
def model_of(cls: Any, *, named: bool = True) -> type[Section]:
    """Makes the pydantic model of what a document may say in place of an object of a dataclass.

    A member of a family has to be ``named``, but where only this member can stand. Raises
    PluginError for an annotation that no document can hold, naming the field.
    """
    parts: dict[str, Any] = {}
    family = getattr(cls, "family", None)
    if isinstance(family, Family):
        default: Any = cls.kind if cls.kind == family.default or not named else ...
        about = Field(default, description=family.choice, exclude=None if named else True)
        parts[family.key] = (Literal[cls.kind], about)
    parts |= keys_of(cls)
    title = cls.__name__ if named or not family else f"Only{cls.__name__}"
    try:
        made = create_model(title, __base__=Section, __doc__=inspect.getdoc(cls), **parts)
    except PydanticSchemaGenerationError as error:
        raise _unwritable(cls, parts) or error from None
    made.makes = cls
    return made


def _unwritable(cls: Any, parts: Mapping[str, Any]) -> PluginError | None:
    """Finds the field that no document can hold: one by one, which takes longer than the model."""
    for field in fields_of(cls):
        try:
            TypeAdapter[Any](parts[field.name][0])
        except PydanticSchemaGenerationError:
            said = f"no document can hold {field.name}: {field.type} of {cls.__name__}"
            return _broken(cls, f"{said}; annotate it with what stands there")
    return None


def keys_of(cls: Any) -> dict[str, Any]:
    """Returns the annotation and default of each key of a document that makes a dataclass."""
    try:
        hints = get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise _broken(cls, f"an annotation of {cls.__name__} is not known: {error}") from None
    return {field.name: (written(hints[field.name]), _default(field)) for field in fields_of(cls)}


def fields_of(cls: Any) -> list[Any]:
    """Returns the fields that a document says."""
    return [field for field in fields(cls) if field.name not in getattr(cls, "given", ())]


def _default(field: Any) -> Any:
    """The default of a field as a document would say it; ``...`` without one."""
    if field.default is not MISSING:
        return described(field.default)
    return ... if field.default_factory is MISSING else described(field.default_factory())


def written(annotation: Any) -> Any:
    """Returns the annotation with models in the place of dataclasses and families.

    What `Written` says stands for the type and its validators, and leaves a `Field` beside it.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner, *extra = arguments
        for said in (data for data in extra if isinstance(data, Written)):
            inner = said.annotation
            extra = [data for data in extra if isinstance(data, FieldInfo)]
        return Annotated[written(inner), *extra] if extra else written(inner)
    if origin is not None and arguments:
        alike: Any = {Mapping: dict, UnionType: Union}.get(origin, origin)
        made = alike[tuple(written(argument) for argument in arguments)]
        # Below a validator of python's, as that of a family's default, JSON is no JSON any more.
        return Annotated[made, BeforeValidator(_as_tuple)] if origin is tuple else made
    cls = annotation if isinstance(annotation, type) else None
    if cls in {family.base for family in FAMILIES.values()}:
        found = _any_of(annotation.family)
        if not annotation.taken:
            return found
        return Annotated[found, BeforeValidator(partial(_not_reserved, annotation.family))]
    if cls and is_dataclass(cls):
        return model_of(cls, named=False)
    return annotation


def _not_reserved(family: Family, said: Any) -> Any:
    if isinstance(said, str) and (why := family.reserved(said)):
        raise ValueError(why)
    return said


def _as_tuple(said: Any) -> Any:
    return tuple(said) if isinstance(said, list) else said


def _any_of(family: Family) -> Any:
    """Any member of a family: a mapping that names it, or where ``bare`` is set a name alone."""
    models = {name: model_of(member) for name, member in family.items()}
    if not models:
        return Annotated[Any, AfterValidator(partial(_refused, family))]
    found: Any = Union[*models.values()]
    if len(models) > 1:  # pydantic asks for a choice where one is told by a key
        found = Annotated[found, Field(discriminator=family.key)]
        if family.default:
            unnamed = {family.key: family.default}
            found = Annotated[
                found, BeforeValidator(lambda said: unnamed | said if type(said) is dict else said)
            ]
    names = [
        name
        for name, model in models.items()
        if not any(f.is_required() for key, f in model.model_fields.items() if key != family.key)
    ]
    if not family.bare or not names:
        return found

    def named(name: str) -> Section:
        return models[name].model_validate({family.key: name})

    return Union[Annotated[Literal[*names], AfterValidator(named)], found]  # noqa: UP007


def _refused(family: Family, said: Any) -> Any:
    """Refuses whatever a document names where a family has no member."""
    name = said.get(family.key) if isinstance(said, dict) else said
    raise ValueError(f"unknown {family.title} {name!r}; there is none without a plugin")


# ---- what is wrong with a plugin -----------------------------------------------------------------


def where(member: type[Any]) -> str:
    """Returns the file and line of a class."""
    try:
        return f"{inspect.getsourcefile(member)}:{inspect.getsourcelines(member)[1]}"
    except (OSError, TypeError):  # typed into a session of Python
        return member.__module__


def _again(old: type[Any], new: type[Any]) -> bool:
    """Whether a class is typed into a session anew, as when a cell of a notebook runs again."""
    same = (old.__module__, old.__qualname__) == (new.__module__, new.__qualname__)
    return same and where(old) == where(new) == new.__module__


def _broken(member: type[Any], message: str) -> PluginError:
    return PluginError(f"{where(member)}: {message}")
