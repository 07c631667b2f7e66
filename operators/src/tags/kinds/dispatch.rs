//! The enums over all kinds, and the calls of each kind's own methods.
//!
//! A match costs no allocation and no dynamic call, so the kinds are no trait objects.

/// Defines the enums over a list of kinds. Each kind is the type of its definition.
macro_rules! dispatch {
    (
        stateful { $($(#[$doc:meta])+ $kind:ident = $code:literal,)+ }
        derived { $($(#[$derived_doc:meta])+ $derived:ident,)+ }
    ) => {
        /// The definition of a value.
        #[derive(Debug, Clone, PartialEq)]
        pub enum TagKind {
            $($(#[$doc])+ $kind($kind),)+
            $($(#[$derived_doc])+ $derived($derived),)+
        }

        /// The compiled definition of a state.
        #[derive(Debug, Clone)]
        pub(crate) enum AggregatorKind {
            $($kind(<$kind as StatefulKind>::Plan),)+
        }

        /// The state of a key.
        #[derive(Debug, Clone)]
        pub(crate) enum State {
            $($kind(<<$kind as StatefulKind>::Plan as StatePlan>::State),)+
        }

        /// The part of an event that a state needs.
        #[derive(Debug)]
        pub(crate) enum Input {
            $($kind(<<$kind as StatefulKind>::Plan as StatePlan>::Input),)+
        }

        /// The compiled definition of a derived tag.
        #[derive(Debug, Clone)]
        pub(crate) enum Derived {
            $($derived(<$derived as DerivedKind>::Plan),)+
        }

        impl TagKind {
            /// The columns that it reads.
            pub fn columns_mut(&mut self) -> Vec<&mut usize> {
                match self {
                    $(Self::$kind(kind) => kind.columns_mut(),)+
                    $(Self::$derived(_) => Vec::new(),)+
                }
            }

            /// The index of the tag from which it is computed.
            pub(crate) fn reads(&self) -> Option<usize> {
                match self {
                    $(Self::$kind(_) => None,)+
                    $(Self::$derived(kind) => Some(kind.tag()),)+
                }
            }

            /// The same, mutable.
            pub(crate) fn reads_mut(&mut self) -> Option<&mut usize> {
                match self {
                    $(Self::$kind(_) => None,)+
                    $(Self::$derived(kind) => Some(kind.tag_mut()),)+
                }
            }

            /// The number of parts, if it depends on quantiles over all keys.
            pub(crate) fn quantiles(&self) -> Option<usize> {
                match self {
                    $(Self::$kind(_) => None,)+
                    $(Self::$derived(kind) => kind.quantiles(),)+
                }
            }

            /// The type of its values, and whether they may be null. `of` is the tag that it reads.
            pub(crate) fn data_type(
                &self,
                input: &Schema,
                of: Option<&Field>,
            ) -> Result<(DataType, bool), String> {
                match (self, of) {
                    $((Self::$kind(kind), _) => kind.data_type(input),)+
                    $((Self::$derived(kind), Some(of)) => Ok((kind.data_type(of)?, true)),)+
                    (_, None) => Err("it reads no tag".into()),
                }
            }

            /// Compiles it. `of` is the tag that it reads.
            pub(crate) fn compile(
                &self,
                context: &Context<'_>,
                of: Option<&InputTag<'_>>,
            ) -> Result<Compiled> {
                match (self, of) {
                    $((Self::$kind(kind), _) => {
                        let kind = kind.compile(context);
                        Ok(Compiled {
                            fingerprint: kind.fingerprint,
                            default: kind.default,
                            input: CompiledInput::State {
                                fingerprint: kind.state,
                                kind: AggregatorKind::$kind(kind.plan),
                                read: kind.read,
                            },
                        })
                    })+
                    $((Self::$derived(kind), Some(of)) => {
                        let kind = kind.compile(context, of);
                        Ok(Compiled {
                            fingerprint: kind.fingerprint,
                            default: kind.default,
                            input: CompiledInput::Tag(Derived::$derived(kind.plan)),
                        })
                    })+
                    (_, None) => Err(Error::internal("a derived tag reads no tag")),
                }
            }
        }

        /// [`StatePlan`] of each kind.
        impl AggregatorKind {
            pub(crate) fn fires(&self) -> bool {
                match self {
                    $(Self::$kind(_) => <<$kind as StatefulKind>::Plan as StatePlan>::FIRES,)+
                }
            }

            pub(crate) fn share(&mut self, other: &Self) -> bool {
                match (self, other) {
                    $((Self::$kind(kind), Self::$kind(other)) => kind.share(other),)+
                    _ => false,
                }
            }

            pub(crate) fn complete(&mut self, node: &str) -> Result<()> {
                match self {
                    $(Self::$kind(kind) => kind.complete(node),)+
                }
            }

            pub(crate) fn locate(&self, read: &mut Read) {
                match self {
                    $(Self::$kind(kind) => kind.locate(read),)+
                }
            }

            pub(crate) fn components(&self) -> Components {
                match self {
                    $(Self::$kind(kind) => kind.components(),)+
                }
            }

            pub(crate) fn covers_us(&self, read: Option<&Read>) -> Option<i64> {
                match self {
                    $(Self::$kind(kind) => kind.covers_us(read),)+
                }
            }

            pub(crate) fn new_state(&self) -> State {
                match self {
                    $(Self::$kind(kind) => State::$kind(kind.new_state()),)+
                }
            }

            pub(crate) fn adapt(&self, state: State, clock: i64) -> State {
                match (self, state) {
                    $((Self::$kind(kind), State::$kind(state)) => {
                        State::$kind(kind.adapt(state, clock))
                    })+
                    _ => unreachable!("a state is as its plan"),
                }
            }

            pub(crate) fn input(&self, event: &Event<'_>) -> Option<Input> {
                match self {
                    $(Self::$kind(kind) => kind.input(event).map(Input::$kind),)+
                }
            }

            pub(crate) fn value(&self, state: &State, read: Option<&Read>, clock: i64) -> Value {
                match (self, state) {
                    $((Self::$kind(kind), State::$kind(state)) => {
                        kind.value(state, read, clock)
                    })+
                    _ => unreachable!("a state is as its plan"),
                }
            }

            pub(crate) fn tiles(
                &self,
                state: &State,
                read: Option<&Read>,
                clock: i64,
            ) -> Vec<Tile> {
                match (self, state) {
                    $((Self::$kind(kind), State::$kind(state)) => {
                        kind.tiles(state, read, clock)
                    })+
                    _ => unreachable!("a state is as its plan"),
                }
            }

            pub(crate) fn newest(&self, state: &State) -> Option<i64> {
                match (self, state) {
                    $((Self::$kind(kind), State::$kind(state)) => {
                        kind.newest(state)
                    })+
                    _ => unreachable!("a state is as its plan"),
                }
            }

            pub(crate) fn next(&self, state: &State, clock: i64) -> Option<i64> {
                match (self, state) {
                    $((Self::$kind(kind), State::$kind(state)) => {
                        kind.next(state, clock)
                    })+
                    _ => unreachable!("a state is as its plan"),
                }
            }

            pub(crate) fn expires_at(
                &self,
                state: &State,
                read: Option<&Read>,
                clock: i64,
            ) -> Option<i64> {
                match (self, state) {
                    $((Self::$kind(kind), State::$kind(state)) => {
                        kind.expires_at(state, read, clock)
                    })+
                    _ => unreachable!("a state is as its plan"),
                }
            }

            pub(crate) fn expiry(&self, state: &State, clock: i64, now: i64) -> Option<Cause> {
                match (self, state) {
                    $((Self::$kind(kind), State::$kind(state)) => {
                        kind.expiry(state, clock, now)
                    })+
                    _ => unreachable!("a state is as its plan"),
                }
            }

            pub(crate) fn add(
                &self,
                state: &mut State,
                input: Input,
                timing: Timing,
                clock: i64,
            ) -> Outcome {
                match (self, state, input) {
                    $((Self::$kind(kind), State::$kind(state), Input::$kind(input)) => {
                        kind.add(state, input, timing, clock)
                    })+
                    _ => unreachable!("a state is as its plan"),
                }
            }

            pub(crate) fn advance(&self, state: &mut State, clock: i64, to: i64) {
                match (self, state) {
                    $((Self::$kind(kind), State::$kind(state)) => {
                        kind.advance(state, clock, to);
                    })+
                    _ => unreachable!("a state is as its plan"),
                }
            }

            pub(crate) fn end_waits(&self, state: &mut State, to: i64) -> Option<i64> {
                match (self, state) {
                    $((Self::$kind(kind), State::$kind(state)) => kind.end_waits(state, to),)+
                    _ => unreachable!("a state is as its plan"),
                }
            }
        }

        impl Codec for State {
            fn put(&self, bytes: &mut Vec<u8>) {
                match self {
                    $(Self::$kind(state) => {
                        let code: u8 = $code;
                        code.put(bytes);
                        state.put(bytes);
                    })+
                }
            }

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                let code = u8::take(bytes)?;
                match code {
                    $($code => Codec::take(bytes).map(Self::$kind),)+
                    _ => None$(.or_else(|| {
                        let older = <<$kind as StatefulKind>::Plan as StatePlan>::take_older;
                        older(code, bytes).map(Self::$kind)
                    }))+,
                }
            }
        }

        /// [`DerivedPlan`] of each kind.
        impl Derived {
            pub(crate) fn has_changes(&self) -> bool {
                match self {
                    $(Self::$derived(_) => <<$derived as DerivedKind>::Plan as DerivedPlan>::HAS_CHANGES,)+
                }
            }

            pub(crate) fn tag(&self) -> usize {
                match self {
                    $(Self::$derived(kind) => kind.tag(),)+
                }
            }

            pub(crate) fn value(&self, of: &Value, data_type: &DataType, clock: i64) -> Value {
                match self {
                    $(Self::$derived(kind) => kind.value(of, data_type, clock),)+
                }
            }

            pub(crate) fn unit_us(&self) -> Option<i64> {
                match self {
                    $(Self::$derived(kind) => kind.unit_us(),)+
                }
            }

            pub(crate) fn thresholds(&self) -> Option<&ThresholdPlan> {
                match self {
                    $(Self::$derived(kind) => kind.thresholds(),)+
                }
            }

            pub(crate) fn thresholds_mut(&mut self) -> Option<&mut ThresholdPlan> {
                match self {
                    $(Self::$derived(kind) => kind.thresholds_mut(),)+
                }
            }
        }
    };
}
pub(super) use dispatch;
